"""One study becomes one case: its sources and masks on the study's grid, its record, and all there is to say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from prostafed.client.findings import Finding, Severity, SourceError, from_error, get_status, make_finding
from prostafed.client.ingest.images.candidates import Report
from prostafed.client.ingest.images.diffusion import convert_map
from prostafed.client.ingest.images.image_files import read_image
from prostafed.client.ingest.images.minima import list_shortfalls
from prostafed.client.ingest.images.sources import Source, find_sources
from prostafed.client.ingest.masks import MaskFiles, read_masks
from prostafed.client.ingest.records import DicomStudy, Series
from prostafed.common.errors import DataError
from prostafed.common.imaging.agreement import doubt_lesion
from prostafed.common.imaging.cases import GENERATED, MASKS, CaseRecord, Grid, Image, Masks
from prostafed.common.imaging.geometry import prepare_case
from prostafed.common.imaging.masks import center_of_mass
from prostafed.common.imaging.resample import covered, lay_box, settle_center

_COARSE = 4  # in-plane: coverage is told from every 4th voxel of the box


@dataclass(frozen=True)
class Wanted:
    """What a study file asks of every case."""

    grid: Grid
    sequences: tuple[str, ...]
    allow_missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What is known of a case beside its images; `description` holds keywords of CaseRecord."""

    case_id: str
    patient_id: str
    center: str = ""
    description: Mapping[str, Any] = field(default_factory=dict)
    masks: MaskFiles | None = None


@dataclass(frozen=True)
class Assembled:
    """A case, or None where the study is refused; what was found and what it was made from."""

    case: tuple[CaseRecord, Image, Masks] | None
    findings: tuple[Finding, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    coverage: Mapping[str, float] = field(default_factory=dict)  # sequence -> share of the box


def assemble_study(study: DicomStudy, known: Known, wanted: Wanted, name: Callable[[Series], str]) -> Assembled:
    """Return the case of a DICOM study; `name` gives the pseudonym of a series."""
    findings = [
        make_finding(known.case_id, each.code, each.text.partition(": ")[2], each.severity) for each in study.findings
    ]

    def report(error: SourceError, series: Series | None) -> None:
        text = error.text if series is None else f"series {name(series)}: {error.text}"
        findings.append(make_finding(known.case_id, error.code, text, error.severity))

    sources = find_sources(study.series, wanted.sequences, wanted.allow_missing, report)
    for text in list_shortfalls(sources, study.series):
        findings.append(make_finding(known.case_id, "PIRADS_MINIMUM", text))
    return _assemble(sources, known, wanted, findings, GENERATED if study.generated else "dicom")


def assemble_files(files: Mapping[str, Path], known: Known, wanted: Wanted) -> Assembled:
    """Return the case of a study whose sequences are image files (t2w, adc, hbv -> NIfTI, MHA or NRRD)."""
    findings: list[Finding] = []

    def report(error: SourceError, series: Series | None) -> None:
        findings.append(from_error(known.case_id, error))

    sources = read_sources(files, wanted, report)
    return _assemble(sources, known, wanted, findings, "files")


def read_sources(files: Mapping[str, Path], wanted: Wanted, report: Report) -> dict[str, Source]:
    """Return the t2w and the wanted sequences of image files; the ADC in 1e-6 mm2/s."""
    sources: dict[str, Source] = {}
    for name in dict.fromkeys(("t2w", *wanted.sequences)):
        severity: Severity = "W" if name in wanted.allow_missing else "F"
        if name not in files:
            code = {"t2w": "NO_T2", "adc": "NO_ADC", "hbv": "NO_HBV"}[name]
            text = f"expected a file in the column {name} of studies.csv, found a blank cell; fill it in."
            report(SourceError(code, text, severity), None)
            continue
        try:
            image = sitk.Cast(read_image(files[name], f"the {name} image", severity), sitk.sitkFloat32)
            sources[name] = Source(convert_map(image) if name == "adc" else image, "image file", ())
        except SourceError as error:
            report(SourceError(error.code, error.text, severity), None)
    return sources


def _assemble(
    sources: Mapping[str, Source], known: Known, wanted: Wanted, findings: list[Finding], origin: str
) -> Assembled:
    cspca = known.description.get("cspca")
    masks: dict[str, sitk.Image] = {}
    if known.masks is not None:

        def report(error: SourceError, series: Series | None) -> None:
            findings.append(from_error(known.case_id, error))

        masks = read_masks(known.masks, sources, cspca, report)
    images = {name: sources[name].image for name in wanted.sequences if name in sources}
    case: tuple[CaseRecord, Image, Masks] | None = None
    coverage: dict[str, float] = {}
    if "t2w" in sources and get_status(findings) != "refused":
        reference = sources["t2w"].image
        try:
            image, voxels = prepare_case(
                known.case_id, images, masks, wanted.grid, reference=reference, channels=wanted.sequences
            )
        except DataError as error:
            findings.append(from_error(known.case_id, error))
        else:
            if doubt := doubt_lesion(masks):
                findings.append(make_finding(known.case_id, "MASK_SPACE", doubt, "W"))
            # Of a study without csPCa zeros are the delineation of its lesions.
            delineated = set(masks) | ({"lesion"} if cspca is False else set())
            record = CaseRecord(
                case_id=known.case_id,
                patient_id=known.patient_id,
                center=known.center,
                masks=tuple(name for name in MASKS if name in delineated),
                sequences={name: sources[name].text for name in images},
                source=origin,
                **known.description,
            )
            case = record, image, voxels
            coverage = measure_coverage(images, reference, masks.get("gland"), wanted.grid)
    return Assembled(case, tuple(dict.fromkeys(findings)), sources, coverage)


def measure_coverage(
    images: Mapping[str, sitk.Image], reference: sitk.Image, gland: sitk.Image | None, grid: Grid
) -> dict[str, float]:
    """Return which share of the box each image covers, by name; the box lies where `prepare_case` lays it."""
    center_mm = settle_center(None if gland is None else center_of_mass(gland), reference, grid)
    z, y, x = grid.size
    coarse = Grid(
        (grid.spacing_mm[0], grid.extent_mm[1] / -(-y // _COARSE), grid.extent_mm[2] / -(-x // _COARSE)),
        (z, -(-y // _COARSE), -(-x // _COARSE)),
    )
    box = lay_box(reference, coarse, center_mm)
    return {name: round(float(covered(box, image).mean()), 3) for name, image in images.items()}
