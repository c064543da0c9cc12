"""Philips, classic single-frame: after the headers of Achieva and Ingenia.

The b-value stands in (2001,1003) alone, as older releases have it; all b-values are one series, numbered slice by
slice; every image has a rescale slope.
"""

import numpy as np
from pydicom.dataset import Dataset

from prostafed.simulations.dicom.scan import Scan, Volume
from prostafed.simulations.dicom.style import PLANES, Encoding, Style, add_private

_NAMES = {"localizer": "Survey", "dwi": "DWI_prostate", "adc": "dADC_prostate", "calculated": "cDWI_prostate"}
_IMAGE_TYPES = {
    "localizer": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
    "adc": ["DERIVED", "PRIMARY", "ADC_UNSPECIFIED", "ADC", "UNSPECIFIED"],
    "calculated": ["DERIVED", "PRIMARY", "M_SE", "M", "SE"],
}
_ADC_SLOPE = 4000 / 4095


def encode(scan: Scan) -> Encoding:
    """Return 12 bits with the slope that uses them: fixed in a map, by the brightest pixel elsewhere."""
    brightest = max(float(np.max(volume.values)) for volume in scan.volumes)
    slope = _ADC_SLOPE if scan.kind == "adc" else max(round(brightest / 4095, 6), 1e-3)
    return Encoding(bits_stored=12, slope=slope, rescale_type="normalized")


def name_scan(scan: Scan) -> str:
    """Return the name of a series."""
    return _NAMES.get(scan.kind, f"T2W_TSE_{PLANES[scan.plane]}")


def _dress(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    dataset.ImageType = _IMAGE_TYPES.get(scan.kind, ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"])
    dataset.SeriesDescription = dataset.ProtocolName = name_scan(scan)
    dataset.ScanningSequence = "GR" if scan.kind == "localizer" else "SE"
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = "FS" if scan.kind == "dwi" else ""
    add_private(dataset, 0x2005, "Philips MR Imaging DD 001", {0x0E: ("FL", 1.0)})
    if volume.b_value_s_per_mm2 is not None:
        add_private(
            dataset,
            0x2001,
            "Philips Imaging DD 001",
            {0x03: ("FL", volume.b_value_s_per_mm2), 0x04: ("CS", "I" if volume.b_value_s_per_mm2 else "N")},
        )


PHILIPS = Style("Philips Medical Systems", "Ingenia GENERATED", "5.4.1", "philips", encode, _dress, slice_by_slice=True)
