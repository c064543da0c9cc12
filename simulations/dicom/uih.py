"""UIH (United Imaging): b-value in (0065,1009). No real header was at hand: names and image types are ours."""

from pydicom.dataset import Dataset

from prostafed.simulations.dicom.scan import Scan, Volume
from prostafed.simulations.dicom.style import PLANES, Encoding, Style, add_private

_NAMES = {"localizer": "scout", "dwi": "epi_dwi_tra", "adc": "epi_dwi_tra_ADC", "calculated": "epi_dwi_tra_cDWI_calc"}
_IMAGE_TYPES = {
    "localizer": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    "dwi": ["ORIGINAL", "PRIMARY", "DIFFUSION", "TRACEW"],
    "adc": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
    "calculated": ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE"],
}


def _encode(scan: Scan) -> Encoding:
    return Encoding(bits_stored=16, rescale_type="US")


def _dress(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    dataset.ImageType = _IMAGE_TYPES.get(scan.kind, ["ORIGINAL", "PRIMARY", "M"])
    dataset.SeriesDescription = dataset.ProtocolName = _NAMES.get(scan.kind, f"t2_fse_{PLANES[scan.plane]}")
    dataset.ScanningSequence = "EP" if "DIFFUSION" in dataset.ImageType else "SE"
    dataset.SequenceVariant = "SK"
    dataset.ScanOptions = ""
    if volume.b_value_s_per_mm2 is not None:
        add_private(dataset, 0x0065, "Image Private Header", {0x09: ("FD", volume.b_value_s_per_mm2)})


UIH = Style("UIH", "uMR 790 GENERATED", "R009", "uih", _encode, _dress)
