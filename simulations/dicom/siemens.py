"""Siemens, syngo MR D/E: after the headers of ProstateX-0000 (Skyra, syngo MR D11).

One series holds all b-values as trace-weighted images; ADC and calculated high b are series of their own, and both
carry a b-value too. The CSA header is written as the scanner does, with the elements readers look for.
"""

import struct

from pydicom.dataset import Dataset

from prostafed.simulations.dicom.scan import Scan, Volume
from prostafed.simulations.dicom.style import PLANES, Encoding, Style, add_private

_DIFFUSION = "ep2d_diff_tra_DYNDIST"
_NAMES = {
    "localizer": "localizer",
    "dwi": _DIFFUSION,
    "adc": f"{_DIFFUSION}_ADC",
    "calculated": f"{_DIFFUSION}CALC_BVAL",
}
_IMAGE_TYPES = {
    "localizer": ["ORIGINAL", "PRIMARY", "M", "NORM"],
    "t2w": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"],
    "dwi": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "DIS2D"],
    "adc": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "DIS2D"],
    "calculated": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "DIS2D"],
}


def _encode(scan: Scan) -> Encoding:
    return Encoding(bits_stored=12)  # ADC in 1e-6 mm2/s as it is, no rescale elements: as in the real study


def _dress(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    diffusion = scan.kind in ("dwi", "adc", "calculated")
    dataset.ImageType = _IMAGE_TYPES[scan.kind]
    dataset.SeriesDescription = _NAMES.get(scan.kind, f"t2_tse_{PLANES[scan.plane]}")
    dataset.ProtocolName = "ep2d_diff_tra" if diffusion else dataset.SeriesDescription
    dataset.ScanningSequence = "EP" if diffusion else "GR" if scan.kind == "localizer" else "SE"
    dataset.SequenceVariant = ["SK", "SP", "OSP"]
    dataset.ScanOptions = ["PFP", "FS"] if diffusion else ""
    dataset.SequenceName = _name_sequence(scan, volume)
    b_value = _state_b_value(scan, volume)
    if b_value is not None:
        isotropic = {0x0D: ("CS", "ISOTROPIC" if b_value else "NONE")}
        add_private(dataset, 0x0019, "SIEMENS MR HEADER", {0x0C: ("IS", b_value), **isotropic})
        csa = make_csa({"B_value": ("IS", str(b_value)), "DiffusionDirectionality": ("CS", "ISOTROPIC")})
    else:
        csa = make_csa({"EchoLinePosition": ("IS", "64")})
    add_private(dataset, 0x0029, "SIEMENS CSA HEADER", {0x08: ("CS", "IMAGE NUM 4"), 0x10: ("OB", csa)})


def _name_sequence(scan: Scan, volume: Volume) -> str:
    if scan.kind == "dwi":
        b_value = volume.b_value_s_per_mm2 or 0
        return f"*ep_b{b_value:.0f}{'t' if b_value else ''}"
    if scan.fitted_b_values:
        return f"*ep_b{scan.fitted_b_values[0]:.0f}_{scan.fitted_b_values[-1]:.0f}"
    return "*fl2d1" if scan.kind == "localizer" else "*tse2d1_25"


def _state_b_value(scan: Scan, volume: Volume) -> int | None:
    """The b-value the headers carry: an ADC map says the highest it was fitted to."""
    b_value = scan.fitted_b_values[-1] if scan.kind == "adc" else volume.b_value_s_per_mm2
    return None if b_value is None else round(b_value)


def make_csa(elements: dict[str, tuple[str, str]]) -> bytes:
    """Return a Siemens CSA2 header, {name: (VR, value)}; layout after nibabel's description of the format.

    "SV10", 4 bytes, number of elements, 77; per element a name of 64 bytes, VM, VR, type, number of items, 77; per
    item four integers, the first its length, then the value padded to 4 bytes.
    """
    parts = [b"SV10\x04\x03\x02\x01", struct.pack("<II", len(elements), 77)]
    for name, (vr, value) in elements.items():
        parts.append(struct.pack("<64si4siii", name.encode(), 1, vr.encode(), 6, 6, 77))
        for index in range(6):  # a scanner writes six items, the first of them filled
            item = f"{value:<8}\0".encode() if index == 0 else b""
            parts.append(struct.pack("<4i", len(item), len(item), 77, len(item)) + item + b"\0" * (-len(item) % 4))
    return b"".join(parts)


SIEMENS = Style("SIEMENS", "Skyra GENERATED", "syngo MR E11", "siemens", _encode, _dress)
