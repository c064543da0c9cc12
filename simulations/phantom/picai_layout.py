"""Generated studies as files in the layout of PI-CAI (see `datasets/picai`), so that one importer reads both: whole
field of view, oblique. README.txt and GENERATED.json say that, and how, the images were generated.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DataError
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder, write_image, write_json, write_text
from prostafed.simulations.phantom.case import GeneratedStudy, draw_study
from prostafed.simulations.phantom.centers import CENTERS
from prostafed.simulations.phantom.fields import Axes, make_axes
from prostafed.simulations.phantom.marksheet import COLUMNS, READ_COLUMNS, describe_study, list_reads
from prostafed.simulations.phantom.masks import make_masks
from prostafed.simulations.phantom.patient import get_center
from prostafed.simulations.phantom.scanner import acquire_diffusion, acquire_t2w
from prostafed.simulations.phantom.settings import Readers, Scanner
from prostafed.simulations.phantom.shapes import make_points

FIELD_OF_VIEW_MM = 180.0
SLAB_MM = 66.0
_LESIONS = "labels/csPCa_lesion_delineations/human_expert/resampled"
_GLAND = "labels/anatomical_delineations/whole_gland/AI/Bosma22b"
_ZONES = "labels/anatomical_delineations/zonal_pz_tz/AI/HeviAI23"
_README = """These studies are GENERATED: no patient was imaged. Do not report results on them as clinical results.

Made by prostafed's phantom in the folder layout of the PI-CAI challenge; GENERATED.json holds the seed and the settings
that give the same files again. Patients follow rates counted in PI-CAI's tables; every PI-RADS read is simulated.
"""


@dataclass(frozen=True)
class Emulation:
    """What generated studies are drawn from."""

    seed: int
    centers: tuple[str, ...] = tuple(CENTERS)
    scanner: Scanner = Scanner()  # noqa: RUF009 (frozen)
    readers: Readers = Readers()  # noqa: RUF009
    field_of_view_mm: float = FIELD_OF_VIEW_MM


def write_picai_layout(
    out: Path, cases: int, emulation: Emulation, progress: Callable[[int, int], None] = lambda done, count: None
) -> None:
    """Write `cases` studies below `out`, the centres mixed by their size; `progress` is called with (done, cases).

    Each file appears whole or not at all; a study whose files exist is skipped, so an interrupted call is finished by
    the same call (it may ask for more cases). The tables come last. Raises DataError where `out` holds a layout with
    other settings, ConfigurationError where it cannot be written to, ValueError for an unknown centre.
    """
    drawn = draw_studies(cases, emulation)
    claim_folder(make_folder(out), {"generated": True, **asdict(emulation)}, _README)
    for folder in (_LESIONS, _GLAND, _ZONES, "clinical_information"):
        make_folder(out / folder)
    studies = {}
    for index, study in enumerate(drawn):
        _write_study(out, index, study, emulation.field_of_view_mm)
        studies[make_ids(index)] = study
        progress(index + 1, cases)
    from prostafed.common.shell.tables import write_table  # needs pydantic, which generating does not

    rows = [describe_study(*ids, study) for ids, study in studies.items()]
    reads = [row for ids, study in studies.items() for row in list_reads("_".join(ids), study)]
    write_table(out / "clinical_information" / "marksheet.csv", COLUMNS, rows)
    write_table(out / "clinical_information" / "reads.csv", READ_COLUMNS, reads)


def draw_studies(cases: int, emulation: Emulation) -> Iterator[GeneratedStudy]:
    """Return `cases` studies, one at a time, the centres mixed by their size; raises ValueError for an unknown one."""
    seed, centers = emulation.seed, emulation.centers
    shares = np.array([get_center(name).studies for name in centers], dtype=float)

    def draw(index: int) -> GeneratedStudy:
        rng = np.random.default_rng(derive_seed(seed, "center", index))
        center = centers[int(rng.choice(len(centers), p=shares / shares.sum()))]
        return draw_study(seed, index, center, emulation.scanner, emulation.readers)

    return map(draw, range(cases))


@dataclass(frozen=True)
class Placing:
    """How the slices of a study lie: on `center_mm` (z, y, x) from the gland, turned by `tilt` about the x axis."""

    center_mm: npt.NDArray[np.float64]
    tilt: float  # radians
    corner_mm: npt.NDArray[np.float64]  # (x, y, z) of the gland's centre, LPS


def draw_placing(study: GeneratedStudy) -> Placing:
    """Return where the technician put the slices of a study."""
    draw = np.random.default_rng(derive_seed(study.seed, "placing"))
    center = draw.normal(0, (3.0, 4.0, 3.0))
    return Placing(center, float(draw.uniform(0, 0.3)), draw.uniform(-120, -20, size=3))


def claim_folder(out: Path, settings: dict[str, Any], readme: str) -> None:
    """Write README.txt and GENERATED.json; raises DataError where `out` holds other settings or other files."""
    path = out / "GENERATED.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != json.loads(json.dumps(settings)):
            raise DataError(
                f"{out} holds generated studies with other settings (GENERATED.json). Choose another folder."
            )
    elif any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no GENERATED.json. Choose an empty folder.")
    write_text(out / "README.txt", readme)
    write_json(path, settings)


def make_ids(index: int) -> tuple[str, str]:
    """Patient and study id; PI-CAI's begin with 1."""
    return str(90000 + index), str(9000000 + index)


def _write_study(out: Path, index: int, study: GeneratedStudy, field_of_view_mm: float) -> None:
    patient_id, study_id = make_ids(index)
    case_id = f"{patient_id}_{study_id}"
    images = make_folder(out / "images" / patient_id)
    paths = {name: images / f"{case_id}_{name}.mha" for name in ("t2w", "adc", "hbv")}
    paths |= {name: out / name / f"{case_id}.nii.gz" for name in (_LESIONS, _GLAND, _ZONES)}
    if all(path.exists() for path in paths.values()):
        return
    protocol = study.protocol
    placing = draw_placing(study)
    fine = lay_axes(protocol.slice_mm, protocol.t2_in_plane_mm, field_of_view_mm, placing)
    coarse = lay_axes(protocol.slice_mm, protocol.dwi_in_plane_mm, field_of_view_mm, placing)
    t2w = acquire_t2w(study.anatomy, protocol, fine, np.random.default_rng(derive_seed(study.seed, "t2w")))
    adc, hbv = acquire_diffusion(study.anatomy, protocol, coarse, np.random.default_rng(derive_seed(study.seed, "dwi")))
    gland, zones, grades = make_masks(study.anatomy, make_points(fine))
    for name, volume, axes in (
        ("t2w", t2w, fine),
        ("adc", adc, coarse),
        ("hbv", hbv, coarse),
        (_GLAND, gland, fine),
        (_ZONES, zones, fine),
        (_LESIONS, grades.astype(np.uint16), fine),
    ):
        stored = volume if volume.dtype.kind == "u" else np.clip(np.round(volume), 0, 65535).astype(np.uint16)
        write_volume(paths[name], stored, axes, placing)


def lay_axes(slice_mm: float, in_plane_mm: float, field_of_view_mm: float, placing: Placing) -> Axes:
    """Return the axes of axial slices over the slab, in the anatomy's own mm."""
    slices, pixels = 2 * int(SLAB_MM / slice_mm / 2) + 1, 2 * round(field_of_view_mm / in_plane_mm / 2)
    spacing_mm = slice_mm, in_plane_mm, in_plane_mm
    return make_axes((slices, pixels, pixels), spacing_mm, placing.center_mm.tolist())


def turn(tilt: float) -> npt.NDArray[np.float64]:
    """Return the matrix whose columns are the x, y and z axes of slices turned by `tilt` (radians) about x."""
    cosine, sine = float(np.cos(tilt)), float(np.sin(tilt))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])


def write_volume(path: Path, volume: npt.NDArray[Any], axes: Axes, placing: Placing) -> None:
    """Write `volume` (z, y, x), oblique as slices are; the suffix says the format."""
    import SimpleITK as sitk

    direction = turn(placing.tilt)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing([round(float(np.diff(axis[:2])[0]), 4) for axis in reversed(axes)])
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((placing.corner_mm + direction @ [float(axis[0]) for axis in reversed(axes)]).tolist())
    write_image(path, image)
