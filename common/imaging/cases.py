"""A case: one patient's study on the grid of the study file, with what reports and pathology say of it. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

MASKS = ("gland", "zones", "lesion")  # gland 0/1; zones 0, 1 = peripheral (PZ), 2 = transition (TZ); lesion 0/1
GENERATED = "phantom"  # the source of a case that no patient was imaged for, in whatever layout it came

Image = npt.NDArray[np.float16]  # (sequence, z, y, x), normalised intensities; all zeros = the case lacks the sequence
Masks = npt.NDArray[np.uint8]  # (MASKS, z, y, x)


@dataclass(frozen=True)
class Grid:
    """The voxels of every case: spacing in mm and size in voxels, both (z, y, x)."""

    spacing_mm: tuple[float, float, float]
    size: tuple[int, int, int]

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edge lengths of the box, (z, y, x)."""
        z, y, x = (spacing * size for spacing, size in zip(self.spacing_mm, self.size, strict=True))
        return z, y, x

    def __str__(self) -> str:
        """Return what a person reads, e.g. 20x256x256 voxels of 3x0.5x0.5 mm."""
        return f"{'x'.join(map(str, self.size))} voxels of {'x'.join(f'{mm:g}' for mm in self.spacing_mm)} mm"


@dataclass(frozen=True)
class CaseRecord:
    """What is known of a case beside its voxels; None = unknown. Stays at the site."""

    case_id: str
    patient_id: str
    center: str = ""
    pirads_reads: tuple[int, ...] = ()  # one PI-RADS score 1-5 per reader; empty where nobody read it
    cspca: bool | None = None  # clinically significant cancer, ISUP >= 2
    isup: int | None = None  # 0-5
    age: float | None = None  # years
    psa: float | None = None  # ng/ml
    prostate_volume: float | None = None  # ml
    masks: tuple[str, ...] = ()  # which of MASKS were delineated; the others hold zeros
    sequences: dict[str, str] = field(default_factory=dict)  # those it has -> source, e.g. {"hbv": "acquired b=1400"}
    source: str = ""  # where it comes from: GENERATED, "dicom", the name of a public set, ...
    fingerprint: str = ""  # of the T2, to know one study again that came to two sites of a simulation

    @property
    def generated(self) -> bool:
        """Whether no patient was imaged; that is said wherever the case is shown."""
        return self.source == GENERATED


class Cases(Protocol):
    """A site's cases, read one at a time: a folder of files, or arrays in memory."""

    @property
    def records(self) -> Sequence[CaseRecord]:
        """The cases, in a fixed order."""

    def load(self, index: int) -> tuple[Image, Masks]:
        """Return the image and masks of `records[index]`."""

    def load_image(self, index: int) -> Image:
        """Return the image of `records[index]`; its masks are not read."""


@dataclass(frozen=True)
class CasesInMemory:
    """Cases held as arrays."""

    records: tuple[CaseRecord, ...]
    arrays: tuple[tuple[Image, Masks], ...]

    def load(self, index: int) -> tuple[Image, Masks]:
        """Return the image and masks of `records[index]`."""
        return self.arrays[index]

    def load_image(self, index: int) -> Image:
        """Return the image of `records[index]`."""
        return self.arrays[index][0]
