"""Instances as studies and series, and what must be said of a study before anything of it is chosen."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from prostafed.client.findings import Finding, make_finding
from prostafed.client.ingest.records import DicomStudy, Series
from prostafed.client.ingest.scan.instances import Instance
from prostafed.client.ingest.scan.repeats import drop_repeats
from prostafed.client.ingest.scan.sorting import group_series
from prostafed.client.ingest.scan.walk import count

MAX_STUDY_BYTES = 20 * 1024**3
MAX_STUDY_FILES = 50_000
# Body parts (0018,0015) that cannot be a slip of the hand for the pelvis, as "abdomen" or "spine" are.
_HEAD_AND_CHEST = ("BRAIN", "HEAD", "SKULL", "EYE", "EAR", "JAW", "NECK", "BREAST", "CHEST", "THORAX", "HEART")
_LIMBS = ("SHOULDER", "ELBOW", "WRIST", "HAND", "KNEE", "ANKLE", "FOOT")

_OTHER_PLANES = ("sagittal", "coronal", "oblique", "mixed")


def make_study(instances: Sequence[Instance], sizes: Mapping[Path, int], unusable: Counter[str]) -> DicomStudy:
    """Return the study of `instances`, in order; `sizes` are in bytes, `unusable` counts files beside them by code."""
    kept = drop_repeats(instances)
    size = sum(sizes.get(each.path, 0) for each in instances)
    series = group_series(kept)
    codes = unusable + Counter(TRUNCATED=sum(each.truncated for each in kept))
    findings = [
        *(describe_files(code, number) for code, number in sorted(codes.items())),
        *_inspect_instances(instances, len(kept), size),
        *_inspect_series(series),
    ]
    return DicomStudy(
        uid=kept[0].study,
        patient=_name_patient(kept),
        series=series,
        folder=Path(os.path.commonpath([each.path.parent for each in kept])),
        bytes=size,
        patient_age=next((each.patient_age for each in kept if each.patient_age is not None), None),
        study_date=next((each.study_date for each in kept if each.study_date), ""),
        birth_date=next((each.birth_date for each in kept if each.birth_date), ""),
        findings=tuple(findings),
        generated=any(each.generated for each in kept),
    )


def _name_patient(instances: Sequence[Instance]) -> str:
    """PatientID after its issuer; without an id each study is a patient of its own, as names may be "anonymous"."""
    patient = next((each.patient for each in instances if each.patient), "")
    issuer = next((each.issuer for each in instances if each.issuer), "")  # not every device writes it
    return f"{issuer} {patient}".strip() if patient else f"study {instances[0].study}"


def describe_files(code: str, number: int) -> Finding:
    """Return the finding about a number of files that cannot be used."""
    files = count(number, "file")
    texts = {
        "EMPTY_FILE": f"expected images, found {files} of 0 bytes; export again.",
        "UNREADABLE": f"expected DICOM, found {files} that cannot be read; export again.",
        "TRUNCATED": f"expected whole images, found {files} cut short; copy or export again.",
        "NOT_DICOM": f"{files} beside the images are no DICOM and were left out; check that nothing is missing.",
        "ZIP_FOUND": f"expected DICOM files, found {count(number, 'archive')}; unpack first.",
    }
    return make_finding("-", code, texts[code])


def _inspect_instances(instances: Sequence[Instance], kept: int, size: int) -> list[Finding]:
    texts = {}
    if repeated := len(instances) - kept:
        texts["DUPLICATE_INSTANCE"] = (
            f"{count(repeated, 'file')} repeat an image that is there already; the first whole one of each is used."
        )
    patients, dates = (
        len({value for each in instances if (value := getattr(each, name))}) for name in ("patient", "birth_date")
    )
    if patients > 1 or dates > 1:
        found = f"{patients} patient ids" if patients > 1 else f"{dates} dates of birth"
        texts["SEVERAL_PATIENTS"] = (
            f"expected one patient in a study, found {found}; repair it in the archive and export again."
        )
    if size > MAX_STUDY_BYTES or len(instances) > MAX_STUDY_FILES:
        texts["STUDY_TOO_LARGE"] = (
            f"expected at most {MAX_STUDY_FILES} files and {MAX_STUDY_BYTES >> 30} GiB in a study, found "
            f"{len(instances)} and {size >> 30}; export only its MR series."
        )
    return [make_finding("-", code, text) for code, text in texts.items()]


def _inspect_series(series: Sequence[Series]) -> list[Finding]:
    texts = {}
    used = [each for each in series if each.kind in ("t2w", "adc", "dwi", "hbv_calc")]
    sources = [each.header for each in used]
    if burned_in := sum(header.burned_in for header in sources):
        texts["BURNED_IN"] = (
            f"expected images only, found {burned_in} series with text in the pixels; export them without annotations."
        )
    if lossy := sum(header.lossy for header in sources):
        texts["LOSSY"] = f"{lossy} series were compressed with loss; export the originals where the archive has them."
    if mosaic := sum("mosaic" in each.reason for each in series):
        texts["MOSAIC"] = f"{mosaic} series hold several slices in one image; export them again as single slices."
    stacks = {each.uid for each in used if each.plane == "axial" and len(each.slices) > 1}
    if aside := sum(len(each.slices) for each in series if each.uid in stacks and each.plane in _OTHER_PLANES):
        texts["SET_ASIDE"] = (
            f"expected the images of an axial series in one plane, found {aside} in another; they were set aside, the "
            "rest is used; check that nothing is missing."
        )
    if any(each.header.patient_sex == "F" for each in series):
        texts["ASK_ANATOMY"] = "expected a male patient, found another sex in the header; check the study."
    elif elsewhere := sum(each.header.body_part in _HEAD_AND_CHEST + _LIMBS for each in series):
        texts["ASK_ANATOMY"] = f"{elsewhere} series name a body part other than the pelvis; check the study."
    return [make_finding("-", code, text) for code, text in texts.items()]
