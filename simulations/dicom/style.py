"""What a vendor's style is: how it names, numbers and encodes a scan, and which elements it writes into each file."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from prostafed.simulations.dicom.scan import FloatArray, Scan, Volume

PLANES = {"axial": "tra", "sagittal": "sag", "coronal": "cor"}  # as most vendors say it


@dataclass(frozen=True)
class Identity:
    """Who was scanned, and when: invented. `key` makes the UIDs: equal keys give equal UIDs."""

    key: str
    patient_id: str
    patient_name: str
    accession: str
    age_years: int
    day: date


@dataclass(frozen=True)
class Encoding:
    """How values become stored pixels of 16 bits allocated: value = slope * stored + intercept."""

    bits_stored: int
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    rescale_type: str = ""  # "": the file says nothing of slope and intercept

    def store(self, values: FloatArray) -> npt.NDArray[np.uint16] | npt.NDArray[np.int16]:
        """Return the stored pixels, little endian, clipped to what the bits can hold."""
        low, high = (
            (-(2 ** (self.bits_stored - 1)), 2 ** (self.bits_stored - 1) - 1)
            if self.signed
            else (0, 2**self.bits_stored - 1)
        )
        stored = np.clip(np.round((values - self.intercept) / self.slope), low, high)
        return stored.astype("<i2" if self.signed else "<u2")


@dataclass(frozen=True)
class Style:
    """A vendor's way; see `styles.STYLES`."""

    manufacturer: str
    model: str
    software: str
    look: str  # which of the phantom's vendors the images look like
    encode: Callable[[Scan], Encoding]
    dress: Callable[
        [Dataset, Scan, Volume], None
    ]  # adds to a slice (classic) or a series (enhanced) what is the vendor's
    split: Callable[[Scan], tuple[Scan, ...]] = lambda scan: (scan,)  # into the series the vendor makes of it
    implicit: bool = False  # transfer syntax: implicit VR, else explicit; little endian
    slice_by_slice: bool = False  # instance numbers run over the b-values of a slice first
    enhanced: bool = False  # one multi-frame file per series


def add_private(dataset: Dataset, group: int, creator: str, elements: dict[int, tuple[str, object]]) -> None:
    """Add private elements {byte offset: (VR, value)}; the block of `creator` is reserved where it is not yet."""
    block = dataset.private_block(group, creator, create=True)
    for offset, (vr, value) in elements.items():
        block.add_new(offset, vr, value)
