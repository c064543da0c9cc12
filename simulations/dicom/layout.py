"""Generated studies as a hospital has them: an export of its archive, and its manifest with labels and masks.

out/
  README.txt, GENERATED.json                say that, and how, the images were generated
  dicom/<patient>/<series>/<instance>.dcm   one study per patient
  manifest/{studies,lesions,reads}.csv
  manifest/masks/<patient>_<study>_{gland,zones,lesion}.nii.gz
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite

from prostafed.common.shell.files import appearing, make_folder, write_bytes
from prostafed.simulations.dicom.acquire import acquire_scans
from prostafed.simulations.dicom.classic import make_slices
from prostafed.simulations.dicom.enhanced import make_multi_frame
from prostafed.simulations.dicom.scan import Scan
from prostafed.simulations.dicom.style import Identity, Style
from prostafed.simulations.dicom.styles import STYLES
from prostafed.simulations.dicom.tables import mask_files, name_case, write_manifest
from prostafed.simulations.phantom.case import GeneratedStudy
from prostafed.simulations.phantom.marksheet import scan_day
from prostafed.simulations.phantom.masks import make_masks
from prostafed.simulations.phantom.picai_layout import (
    Emulation,
    claim_folder,
    draw_placing,
    draw_studies,
    make_ids,
    write_volume,
)
from prostafed.simulations.phantom.shapes import make_points

_README = """These studies are GENERATED: no patient was imaged. Do not report results on them as clinical results.

Made by prostafed's phantom as DICOM files; GENERATED.json holds the seed and the settings that give them again. Every
file says so in Quality Control Image (0028,0300) = YES, in its comments and in the patient's name.
"""


def write_dicom_layout(
    out: Path,
    cases: int,
    emulation: Emulation,
    progress: Callable[[int, int], None] = lambda done, count: None,
    *,
    style: str,
) -> None:
    """Write `cases` studies in one of STYLES below `out`; `progress` is called with (done, cases).

    A study appears whole or not at all and is skipped where it exists: an interrupted call is finished by the same
    call, which may ask for more cases. Raises DataError where `out` holds a layout with other settings,
    ConfigurationError where it cannot be written to, ValueError for an unknown centre.
    """
    drawn = draw_studies(cases, emulation)
    claim_folder(make_folder(out), {"generated": True, "dicom": style, **asdict(emulation)}, _README)
    for folder in ("dicom", "manifest/masks"):
        make_folder(out / folder)
    studies = {}
    for index, study in enumerate(drawn):
        studies[make_ids(index)] = study
        _write_study(out, *make_ids(index), study, STYLES[style], emulation.field_of_view_mm)
        progress(index + 1, cases)
    write_manifest(out / "manifest", studies)


def _write_study(
    out: Path, patient_id: str, study_id: str, study: GeneratedStudy, style: Style, field_of_view_mm: float
) -> None:
    folder = out / "dicom" / patient_id
    if folder.exists():  # written last, after its masks
        return
    placing = draw_placing(study)
    scans, axes = acquire_scans(study, placing, field_of_view_mm)
    paths = mask_files(name_case(patient_id, study_id))
    masks = dict(zip(("gland", "zones", "lesion"), make_masks(study.anatomy, make_points(axes)), strict=True))
    for name, path in paths.items():
        write_volume(out / "manifest" / path, masks[name], axes, placing)
    identity = Identity(
        key=f"{study.seed} {study_id} {style.manufacturer} {style.enhanced}",
        patient_id=f"GENERATED-{patient_id}",
        patient_name=f"GENERATED^Patient {patient_id}",
        accession=f"GEN-{study_id}",
        age_years=round(study.patient.age),
        day=scan_day(study),
    )
    write_study(folder, identity, style, scans)


def write_study(folder: Path, identity: Identity, style: Style, scans: Sequence[Scan]) -> dict[int, Scan]:
    """Write `scans` to the new folder `folder`, whole or not at all; return what each series number shows."""
    series = dict(enumerate((part for scan in scans for part in style.split(scan)), start=1))
    with appearing(folder) as whole:
        for number, scan in series.items():
            part = make_folder(whole / f"{number:04d}")
            datasets = (
                (make_multi_frame(identity, style, scan, number),)
                if style.enhanced
                else make_slices(identity, style, scan, number)
            )
            for instance, dataset in enumerate(datasets, start=1):
                content = BytesIO()
                dcmwrite(content, dataset, enforce_file_format=True)
                write_bytes(part / f"{instance:04d}.dcm", content.getvalue())
    return series
