"""Nothing of a patient gets out: names, numbers, dates and paths are planted everywhere, and looked for everywhere.

The one exception is the manifest: the hospital's own table of which folder is which case, which stays where it is.
"""

import gzip
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset

from prostafed.client.rounds import answer as work
from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.exchange.messages import Request
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from tests.client.ingest.tiny_study import GRID, make_study, save_study

NAME, NUMBER, DATE, ROOT = "ZZTOPSECRET", "4711081599", "19010203", "1.2.826.0.1.77777"
PLANTED = (NAME, NUMBER, DATE, "1901-02-03", "03.02.1901", ROOT)
# Elements that ingestion must read as they are; everything else that can hold text is overwritten.
NEEDED = {
    *("Modality", "ImageType", "PatientSex", "PhotometricInterpretation", "Manufacturer", "ScanningSequence"),
    *("SpecificCharacterSet", "BodyPartExamined", "BurnedInAnnotation", "LossyImageCompression", "PatientAge"),
    *("SOPClassUID", "TransferSyntaxUID", "DiffusionDirectionality", "QualityControlImage", "PixelSpacing"),
    *("VolumetricProperties", "ContrastBolusAgent", "SequenceName", "SequenceVariant", "ScanOptions", "FrameType"),
    *("SeriesDescription", "PatientID", "AccessionNumber"),  # planted one by one below
}
TEXT = {
    **dict.fromkeys(("LO", "SH", "LT", "ST", "UT", "UC", "AE", "CS", "UR"), NAME),
    **{"PN": f"{NAME}^HANS", "DA": DATE, "DT": f"{DATE}010203", "TM": "010203"},
}
STUDY = f"""
name = "tiny"
[data]
spacing_mm = {list(GRID.spacing_mm)}
size = {list(GRID.size)}
[model]
width = 4
resolutions = 2
[[stage]]
kind = "pretrain"
rounds = 1
"""


def plant(datasets: Iterator[Dataset]) -> None:
    """Overwrite every text element of the standard but those NEEDED, valid or not, and hang a private block on."""
    extra = Dataset()
    for tag, (vr, *_, retired, keyword) in DicomDictionary.items():
        if vr in TEXT and keyword and keyword not in NEEDED and tag >> 16 not in (0, 2) and not retired:
            value = TEXT[vr]
            extra.add_new(tag, vr, value if tag % 3 or vr != "DA" else NAME)  # some dates are no dates
    block = extra.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0F, "LO", NAME)
    uids: dict[str, str] = {}
    for dataset in datasets:
        dataset.update(extra)
        dataset.PatientID, dataset.AccessionNumber = NUMBER, NUMBER
        dataset.SeriesDescription += f" {NAME}"
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            uid = str(dataset[keyword].value)
            dataset[keyword].value = uids.setdefault(uid, f"{ROOT}.{len(uids) + 1}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    assert keyword_for_tag(0x00100010) == "PatientName"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good study and several bad ones, full of patient data."""
    root = tmp_path_factory.mktemp("pacs") / "export"
    config.settings.writing_validation_mode = config.IGNORE
    try:
        for number, damage in enumerate(("", "gap", "cut", "noise", "text", "position")):
            study = make_study(seed=number)
            plant(each for datasets in study.values() for each in datasets)
            for dataset in (each for datasets in study.values() for each in datasets):
                dataset.StudyInstanceUID += f".{number}"
                dataset.PatientID += str(number)
            if damage == "gap":
                del study["t2w"][3]
            if damage == "position":
                study["t2w"][3].ImagePositionPatient = None
            paths = save_study(study, root / f"{NAME}_{number}")
            for path in paths:
                path.rename(path.with_name(f"{NAME}_{DATE}_{path.name}"))
            victim = next((root / f"{NAME}_{number}" / "t2w").iterdir())
            if damage == "cut":
                victim.write_bytes(victim.read_bytes()[:-700])
            if damage == "noise":
                whole = victim.read_bytes()
                victim.write_bytes(whole[:400] + os.urandom(600) + NAME.encode() * 50 + whole[1600:])
            if damage == "text":
                victim.write_text(f"{NAME} was born on {DATE}")
        (root / f"{NAME}.zip").write_bytes(b"PK\x03\x04" + NAME.encode())
    finally:
        config.settings.writing_validation_mode = None
    return root


def run(folder: Path, *arguments: str) -> str:
    """Run prostafed-site in `folder` with every warning on, and return all it said."""
    environment = {**os.environ, "PYTHONWARNINGS": "always", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("prostafed-site"), *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def find_planted(data: bytes) -> list[str]:
    """Return what was planted and stands in `data`: as it is, in lower case or in two-byte characters."""
    return [
        text
        for text in PLANTED
        for form in (text.encode(), text.lower().encode(), text.encode("utf-16-le"))
        if form in data
    ]


@pytest.fixture(scope="module")
def site(export: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A site that did everything a site does, and what each command said."""
    home = tmp_path_factory.mktemp("home")
    said = {"init": run(home, "init", "north", "--name", "north")}
    north, dicom = home / "north", str(export)
    (north / "study.toml").write_text(STUDY)
    (north / "site.toml").write_text("privacy.minimum_cohort = 1\n" + (north / "site.toml").read_text())
    for name, *arguments in (
        ("manifest init", "manifest", "init", "--dicom", dicom),
        ("manifest check", "manifest", "check"),
        ("dry run", "index", "--dicom", dicom, "--study", "study.toml", "--dry-run"),
        ("index", "index", "--dicom", dicom, "--study", "study.toml"),
        ("index again", "index", "--dicom", dicom, "--study", "study.toml", "--json"),
        ("qc", "qc", "--out", "report.html"),
        ("check", "check", "--study", "study.toml"),
        ("check json", "check", "--json"),
    ):
        said[name] = run(north, *arguments)
    return north, said


def test_the_site_did_its_work(site: tuple[Path, dict[str, str]]) -> None:
    north, said = site
    assert len(list((north / "cases").glob("*.safetensors"))) >= 1
    assert (north / "report.html").is_file()
    for code in ("MISSING_SLICE", "NO_GEOMETRY", "ZIP_FOUND"):
        assert code in said["index"], said["index"]
    assert find_planted((north / "manifest" / "studies.csv").read_bytes()), "the manifest names folders: a control"


def test_no_command_says_it(site: tuple[Path, dict[str, str]]) -> None:
    for name, text in site[1].items():
        assert not find_planted(text.encode()), f"prostafed-site {name} says {find_planted(text.encode())}: {text}"


def test_no_file_holds_it(site: tuple[Path, dict[str, str]]) -> None:
    north, _ = site
    for path in sorted(north.rglob("*")):
        if path.is_dir() or path.parent.name == "manifest":
            continue
        assert not find_planted(str(path.relative_to(north)).encode()), path
        data = path.read_bytes()
        assert not find_planted(data), f"{path.name} holds {find_planted(data)}"
        if data[:2] == b"\x1f\x8b":
            assert not find_planted(gzip.decompress(data))


def test_no_message_holds_it(site: tuple[Path, dict[str, str]]) -> None:
    north, _ = site
    study = parse(tomllib.loads(STUDY), Study, "test")
    place = open_workplace(north / "site.toml", study.canonical())
    reply = work.answer(place, Request("train", "run", study.hash(), 1, 1))
    sent = repr(reply).encode() + b"".join(np.ascontiguousarray(each).tobytes() for each in reply.tensors.values())
    assert not find_planted(sent)
    for record in place.cases.records:
        assert record.case_id.encode() not in sent
        assert record.patient_id.encode() not in sent
