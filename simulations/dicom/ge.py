"""GE, DV/RX: after the headers of DISCOVERY MR750 and SIGNA HDx, and what READY View writes for maps.

The b-value is the first number of (0043,1039), with 1e9 added where several were acquired; a high b is scanned on its
own, with its own b = 0. Implicit VR: private elements come without their type. Besides the ADC map the workstation
writes an exponential one, which is not an ADC.
"""

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from prostafed.simulations.dicom.scan import Scan, Volume
from prostafed.simulations.dicom.style import Encoding, Style, add_private

_PLANES = {"axial": "Ax", "sagittal": "Sag", "coronal": "Cor"}
_NAMES = {
    "localizer": "3-Plane Loc",
    "dwi": "Ax DWI",
    "adc": "Apparent Diffusion Coefficient (mm2/s)",
    "eadc": "Exponential Apparent Diffusion Coefficient",
    "calculated": "Synthetic DWI",
}
_OFFSET = 1_000_000_000
_HIGH_B = 1200.0


def _encode(scan: Scan) -> Encoding:
    return Encoding(bits_stored=16, signed=True)


def _split(scan: Scan) -> tuple[Scan, ...]:
    if scan.kind == "adc":
        return scan, _exponential(scan)
    low = tuple(volume for volume in scan.volumes if (volume.b_value_s_per_mm2 or 0) < _HIGH_B)
    high = tuple(volume for volume in scan.volumes if (volume.b_value_s_per_mm2 or 0) >= _HIGH_B)
    if scan.kind != "dwi" or not high:
        return (scan,)
    return replace(scan, volumes=low), replace(scan, volumes=(*low[:1], *high))


def _exponential(adc: Scan) -> Scan:
    """The exponential map exp(-b ADC), stored in thousandths."""
    (volume,) = adc.volumes
    values = np.asarray(1000 * np.exp(volume.values * np.float32(-adc.fitted_b_values[-1] * 1e-6)), dtype=np.float32)
    return replace(adc, kind="eadc", volumes=(replace(volume, values=values),))


def _dress(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    mapped = scan.kind in ("adc", "eadc", "calculated")
    dataset.ImageType = ["DERIVED", "SECONDARY", "PROCESSED"] if mapped else ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SeriesDescription = _NAMES.get(scan.kind, f"{_PLANES[scan.plane]} T2 frFSE")
    dataset.ProtocolName = "PROSTATE GENERATED"
    dataset.ScanningSequence = ["EP", "RM"] if mapped or scan.kind == "dwi" else "SE"
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = ["FS", "EPI_GEMS"] if mapped or scan.kind == "dwi" else "FAST_GEMS"
    pulse_sequence = "epi2" if mapped or scan.kind == "dwi" else "fse-xl"
    add_private(dataset, 0x0019, "GEMS_ACQU_01", {0x9C: ("LO", pulse_sequence)})
    b_value = scan.fitted_b_values[-1] if scan.kind in ("adc", "eadc") else volume.b_value_s_per_mm2
    if b_value is not None:
        stated = round(b_value) + (_OFFSET if b_value else 0)
        add_private(dataset, 0x0043, "GEMS_PARM_01", {0x39: ("IS", [stated, 8, 0, 0])})


GE = Style(
    "GE MEDICAL SYSTEMS", "DISCOVERY MR750 GENERATED", "DV26", "ge", _encode, _dress, split=_split, implicit=True
)
