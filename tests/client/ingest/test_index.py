"""A site's folder becomes cases and an index: what is kept, made anew, removed, and never said."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.gate.opt_out import read_opted_out
from prostafed.client.ingest import index
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.client.ingest.workers import map_in_processes
from prostafed.client.manifest import LesionRow, Manifest, ReadRow, StudyRow
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import ConfigurationError, StorageError
from prostafed.common.imaging.case_folder import open_case_folder
from tests.client.ingest.tiny_study import GRID, Study, make_study, save_study

SECRET = b"s" * 32
ALL = ("t2w", "adc", "hbv")


@pytest.fixture(scope="module")
def studies() -> dict[str, Study]:
    return {name: make_study(patient=f"Doe^{name}", seed=seed) for seed, name in enumerate("abc")}


@pytest.fixture
def dicom(tmp_path: Path, studies: dict[str, Study]) -> Path:
    for name, study in studies.items():
        save_study(study, tmp_path / "dicom" / name)
    return tmp_path / "dicom"


@pytest.fixture
def request_(dicom: Path, tmp_path: Path) -> IndexRequest:
    return IndexRequest(dicom, tmp_path / "cases", SECRET, GRID, ALL, center="north", workers=1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies that are really made, as they are."""
    names: list[str] = []

    def watch(plan: Any, *arguments: Any, **values: Any) -> Any:
        names.append(plan.known.case_id)
        return make_case(plan, *arguments, **values)

    make_case = index.make_case
    monkeypatch.setattr(index, "make_case", watch)
    return names


def case_id(study: Study) -> str:
    return make_pseudonym(SECRET, "study", str(study["t2w"][0].StudyInstanceUID))


def case_files(request: IndexRequest) -> set[str]:
    return {path.stem for path in request.out.glob("*.safetensors")}


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_every_study_becomes_a_case_and_an_entry(request_: IndexRequest, studies: dict[str, Study]) -> None:
    seen: list[tuple[int, int]] = []
    found = index_site(request_, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert found["counts"] == {"ready": 3, "warning": 0, "refused": 0, "opted_out": 0, "reused": 0, "removed": 0}
    assert found == json.loads((request_.out / "index.json").read_text())
    assert [entry["study"] for entry in found["studies"]] == sorted(case_id(study) for study in studies.values())
    entry = found["studies"][0]
    assert entry["sequences"]["hbv"]["source"] == "acquired b=1400"
    high = [each["series"] for each in entry["series"] if each["b_values_s_per_mm2"] == [1400]]
    assert entry["sequences"]["hbv"]["series"] == high
    assert entry["sequences"]["adc"] | {"series": []} == {
        "source": "vendor map",
        "series": [],
        "b_value_s_per_mm2": None,
        "fitted_to_s_per_mm2": [],
        "spacing_mm": [3.0, 0.4, 0.4],
        "size": [8, 32, 32],
        "coverage": 1.0,
        "snr": None,
    }
    assert entry["sequences"]["t2w"]["snr"] > 1
    assert (entry["spacing_mm"], entry["size"]) == ([3.0, 0.4, 0.4], [8, 32, 32])
    cases = open_case_folder(request_.out)
    assert (cases.grid, cases.sequences) == (GRID, ALL)
    assert {record.case_id for record in cases.records} == {case_id(study) for study in studies.values()}
    assert {(record.center, record.age, record.source) for record in cases.records} == {("north", 65.0, "dicom")}
    assert len({record.patient_id for record in cases.records}) == 3


def test_nothing_is_made_twice(request_: IndexRequest, made: list[str]) -> None:
    first = index_site(request_)
    assert len(made) == 3
    again = index_site(request_)
    assert len(made) == 3
    assert again["studies"] == first["studies"]
    assert again["counts"]["reused"] == 3


def test_a_changed_file_makes_its_own_study_anew(
    request_: IndexRequest, made: list[str], studies: dict[str, Study]
) -> None:
    index_site(request_)
    assert request_.dicom is not None
    touch(request_.dicom / "b" / "t2w" / "003.dcm")
    made.clear()
    index_site(request_)
    assert made == [case_id(studies["b"])]


@pytest.mark.parametrize("change", ["grid", "sequences", "center", "missing", "case", "index"])
def test_what_the_cases_depend_on_makes_them_anew(request_: IndexRequest, made: list[str], change: str) -> None:
    index_site(request_)
    other = {
        "grid": {"grid": replace(GRID, size=(6, 20, 20))},
        "sequences": {"sequences": ("t2w", "adc")},
        "center": {"center": "south"},
        "missing": {"allow_missing": ("hbv",)},
    }.get(change, {})
    if change == "case":
        next(request_.out.glob("*.safetensors")).unlink()
    if change == "index":
        (request_.out / "index.json").write_text('{"studies": [{"st')
    made.clear()
    index_site(replace(request_, **other))
    assert len(made) == (1 if change == "case" else 3)


def test_an_interrupted_index_goes_on_where_it_stopped(
    request_: IndexRequest, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index_site(replace(request_, out=request_.out.with_name("whole")))
    made.clear()

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_site(request_, stop)
    assert len(json.loads((request_.out / "index.json").read_text())["studies"]) == 2
    assert index_site(request_)["studies"] == expected["studies"]
    assert len(made) == 3
    for path in request_.out.glob("*.safetensors"):
        assert path.read_bytes() == (request_.out.with_name("whole") / path.name).read_bytes()


def test_processes_make_the_same_cases(request_: IndexRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    one = index_site(request_)
    monkeypatch.setattr(index, "FEW", 0)
    two = index_site(replace(request_, out=request_.out.with_name("other"), workers=2))
    assert one["studies"] == two["studies"]
    for path in request_.out.glob("*.safetensors"):
        assert path.read_bytes() == (request_.out.with_name("other") / path.name).read_bytes()


def _die(number: int) -> int:
    if number == 2:
        os._exit(1)
    return 10 * number


def test_a_study_that_ends_its_process_costs_itself_alone() -> None:
    assert sorted(map_in_processes(_die, [1, 2, 3, 4], 2)) == [(1, 10), (2, None), (3, 30), (4, 40)]


def test_a_study_that_ends_its_process_is_refused(request_: IndexRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(make: Callable[[Any], Any], plans: list[Any], workers: int) -> Iterator[tuple[Any, Any]]:
        yield from ((plan, None if number else make(plan)) for number, plan in enumerate(plans))

    monkeypatch.setattr(index, "FEW", 0)
    monkeypatch.setattr(index, "map_in_processes", lose)
    found = index_site(replace(request_, workers=2))
    assert [entry["status"] for entry in found["studies"]] == ["ready", "refused", "refused"]
    assert found["studies"][1]["findings"][0]["code"] == "UNREADABLE"


def test_compressed_pixels_are_decoded_in_another_process(
    request_: IndexRequest, dicom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    for path in (dicom / "a" / "t2w").iterdir():
        dataset = dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    asked: list[int] = []

    def watch(make: Callable[[Any], Any], plans: list[Any], workers: int) -> Iterator[tuple[Any, Any]]:
        asked.append(len(plans))
        yield from ((plan, make(plan)) for plan in plans)

    monkeypatch.setattr(index, "map_in_processes", watch)
    assert index_site(request_)["counts"]["ready"] == 3
    assert asked == [3]


def test_a_dry_run_writes_nothing(request_: IndexRequest) -> None:
    dry = index_site(replace(request_, dry_run=True))
    assert not request_.out.exists()
    assert dry["studies"] == index_site(request_)["studies"]
    assert request_.dicom is not None
    shutil.rmtree(request_.dicom / "a")
    before = {path: path.read_bytes() for path in request_.out.iterdir()}
    assert index_site(replace(request_, dry_run=True))["counts"]["removed"] == 1
    assert {path: path.read_bytes() for path in request_.out.iterdir()} == before


def test_a_study_that_is_refused_now_loses_its_case(request_: IndexRequest, studies: dict[str, Study]) -> None:
    index_site(request_)
    assert request_.dicom is not None
    (request_.dicom / "b" / "t2w" / "003.dcm").unlink()
    found = index_site(request_)
    assert found["counts"]["refused"] == 1
    assert case_files(request_) == {case_id(studies["a"]), case_id(studies["c"])}


def test_a_study_that_is_gone_loses_its_case_and_it_is_said(request_: IndexRequest, studies: dict[str, Study]) -> None:
    index_site(request_)
    assert request_.dicom is not None
    shutil.rmtree(request_.dicom / "b")
    found = index_site(request_)
    assert (found["counts"]["removed"], [each["code"] for each in found["findings"]]) == (1, ["SOURCE_GONE"])
    assert case_files(request_) == {case_id(studies["a"]), case_id(studies["c"])}
    assert index_site(request_)["findings"] == []


def test_a_folder_that_is_empty_takes_no_case_away(request_: IndexRequest) -> None:
    """It may be a disk that is not there today."""
    index_site(request_)
    assert request_.dicom is not None
    shutil.rmtree(request_.dicom)
    request_.dicom.mkdir()
    found = index_site(request_)
    assert [each["code"] for each in found["findings"]] == ["NO_DICOM"]
    assert (len(found["studies"]), len(case_files(request_))) == (3, 3)


def test_another_folder_adds_its_cases(request_: IndexRequest, tmp_path: Path) -> None:
    index_site(request_)
    save_study(make_study(seed=9), tmp_path / "second" / "d")
    found = index_site(replace(request_, dicom=tmp_path / "second"))
    assert (len(found["studies"]), found["counts"]["removed"]) == (4, 0)


def test_a_study_nobody_can_read_costs_itself_alone(request_: IndexRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(9))
    assemble = index.assemble_study

    def fail(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError("/data/Doe^b/001.dcm")
        return assemble(*arguments)

    monkeypatch.setattr(index, "assemble_study", fail)
    found = index_site(request_)
    assert [entry["status"] for entry in found["studies"]] == ["ready", "refused", "ready"]
    assert "(ZeroDivisionError)" in found["studies"][1]["findings"][0]["text"]
    assert "Doe" not in json.dumps(found)


def test_a_full_disk_is_one_sentence(request_: IndexRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StorageError, match=r"Cannot write into .*no space left on device.*what is done is kept"):
        index_site(request_)


def test_a_folder_that_is_not_there(request_: IndexRequest, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        index_site(replace(request_, dicom=tmp_path / "nowhere"))


# The series map


def test_a_person_may_choose_another_series(request_: IndexRequest, made: list[str], studies: dict[str, Study]) -> None:
    index_site(request_)
    path = request_.out / "series_map.csv"
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 12
    assert {(row["kind"], row["b_values"]) for row in rows} == {
        ("t2w", ""),
        ("dwi", "50 400 800"),
        ("adc", ""),
        ("dwi", "1400"),
    }
    row = next(row for row in rows if (row["case_id"], row["kind"]) == (case_id(studies["c"]), "adc"))
    row["use_as"] = "ignore"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    made.clear()
    found = index_site(request_)
    assert made == [case_id(studies["c"])]
    entry = next(entry for entry in found["studies"] if entry["study"] == made[0])
    assert entry["sequences"]["adc"]["source"] == "fitted b=50,400,800"
    assert list(csv.DictReader(path.open())) == rows
    named = replace(request_, series_map=path, out=request_.out.with_name("other"))
    assert index_site(named)["studies"] == found["studies"]


# The manifest


def row(**cells: object) -> StudyRow:
    return StudyRow.model_validate(cells)


def with_rows(request: IndexRequest, *rows: StudyRow, **tables: Any) -> IndexRequest:
    folder = request.out.with_name("manifest")
    folder.mkdir(exist_ok=True)
    return replace(request, manifest=Manifest(rows, **tables), manifest_folder=folder)


def records(request: IndexRequest) -> Mapping[str, Any]:
    return {record.case_id: record for record in open_case_folder(request.out).records}


def test_rows_belong_to_studies_by_id_or_by_folder(request_: IndexRequest, studies: dict[str, Study]) -> None:
    ids = {name: case_id(study) for name, study in studies.items()}
    request = with_rows(
        request_,
        row(case_id=ids["a"], patient_key="p1", psa=4.5),
        row(case_id="mine", patient_key="p1", dicom_dir="b", psa=5.5, patient_age=70),
        reads=(ReadRow(case_id="mine", reader_id="r1", pirads=4),),
    )
    found = index_site(request)
    known = records(request)
    assert [known[ids[name]].psa for name in "abc"] == [4.5, 5.5, None]
    assert (known[ids["b"]].age, known[ids["b"]].pirads_reads, known[ids["c"]].age) == (70, (4,), 65)
    assert known[ids["a"]].patient_id == known[ids["b"]].patient_id == make_pseudonym(SECRET, "patient", "p1")
    key = make_pseudonym(SECRET, "PatientID", "Doe^c")
    assert known[ids["c"]].patient_id == make_pseudonym(SECRET, "patient", key)
    assert found["counts"]["ready"] == 3


def test_the_innermost_folder_counts(request_: IndexRequest, studies: dict[str, Study]) -> None:
    request = with_rows(request_, row(case_id="x", dicom_dir="a"), row(case_id="y", dicom_dir="a/t2w", psa=1))
    found = index_site(request)
    entry = next(each for each in found["studies"] if each["study"] == make_pseudonym(SECRET, "case", "y"))
    assert [each["code"] for each in entry["findings"]] == ["NO_DICOM"]  # not all files of a study lie there


def test_a_folder_of_several_studies_is_refused(request_: IndexRequest) -> None:
    found = index_site(with_rows(request_, row(case_id="x", dicom_dir=".")))
    assert found["counts"]["refused"] == 3
    assert {each["code"] for entry in found["studies"] for each in entry["findings"]} == {"SEVERAL_STUDIES"}


def test_a_row_whose_study_is_not_there(request_: IndexRequest) -> None:
    found = index_site(with_rows(request_, row(case_id="x", dicom_dir="z")))
    entry = next(each for each in found["studies"] if each["study"] == make_pseudonym(SECRET, "case", "x"))
    assert (entry["status"], entry["findings"][0]["code"]) == ("refused", "NO_DICOM")


def test_a_row_of_a_study_in_another_folder_is_left_alone(
    request_: IndexRequest, tmp_path: Path, studies: dict[str, Study]
) -> None:
    rows = [row(case_id=case_id(study), dicom_dir=name) for name, study in studies.items()]
    late = with_rows(replace(request_, dicom=tmp_path / "second"), *rows)
    save_study(make_study(seed=9), tmp_path / "second" / "d")
    found = index_site(late)  # the first folder was not indexed yet: its rows name nothing
    assert found["counts"] | {"ready": 1, "refused": 3} == found["counts"]
    found = index_site(with_rows(request_, *rows))
    assert found["counts"] | {"ready": 4, "refused": 0} == found["counts"]
    assert index_site(late)["studies"] == found["studies"]
    assert request_.dicom is not None
    shutil.rmtree(request_.dicom)  # a disk that is not there today
    request_.dicom.mkdir()
    assert index_site(with_rows(request_, *rows))["studies"] == found["studies"]
    assert len(case_files(request_)) == 4


def test_a_patient_who_objects_is_left_out(request_: IndexRequest, studies: dict[str, Study]) -> None:
    index_site(request_)
    ids = [case_id(study) for study in studies.values()]
    request = with_rows(request_, row(case_id=ids[0], opt_out=1), row(case_id=ids[1], opt_out=0))
    found = index_site(request)
    assert (found["counts"]["opted_out"], len(found["studies"])) == (1, 2)
    assert case_files(request) == set(ids[1:])
    assert ids[0] not in json.dumps(found)


def test_a_patient_who_objects_is_left_out_though_the_study_lies_elsewhere(
    request_: IndexRequest, tmp_path: Path, studies: dict[str, Study]
) -> None:
    index_site(request_)
    save_study(make_study(seed=9), tmp_path / "second" / "d")
    out = row(case_id=case_id(studies["a"]), dicom_dir="a", opt_out=1)
    found = index_site(with_rows(replace(request_, dicom=tmp_path / "second"), out))
    assert (found["counts"]["opted_out"], found["counts"]["ready"]) == (1, 3)
    assert case_id(studies["a"]) not in case_files(request_)


def test_all_studies_of_a_patient_who_objects_are_left_out_and_it_is_kept(
    request_: IndexRequest, studies: dict[str, Study], tmp_path: Path
) -> None:
    a, b, c = (case_id(study) for study in studies.values())
    request = replace(request_, memory=tmp_path / "memory")
    index_site(with_rows(request, row(case_id=a, patient_key="p"), row(case_id=b, patient_key="p")))
    whose = records(request)[a].patient_id
    assert case_files(request) == {a, b, c}
    assert read_opted_out(tmp_path / "memory") == {}
    objects = row(case_id=a, patient_key="p", opt_out=1), row(case_id=b, patient_key="p", opt_out=0)
    dry = index_site(replace(with_rows(request, *objects), dry_run=True))
    assert dry["counts"]["opted_out"] == 2
    assert case_files(request) == {a, b, c}
    assert read_opted_out(tmp_path / "memory") == {}, "nothing is written"
    found = index_site(with_rows(request, *objects))
    assert (found["counts"]["opted_out"], case_files(request)) == (2, {c})
    assert read_opted_out(tmp_path / "memory").keys() == {whose}


def test_who_objected_does_so_until_a_row_says_otherwise(
    request_: IndexRequest, studies: dict[str, Study], made: list[str], tmp_path: Path
) -> None:
    a, b, c = (case_id(study) for study in studies.values())
    request = replace(request_, memory=tmp_path / "memory")
    index_site(with_rows(request, row(case_id=a, opt_out=1)))
    made.clear()
    index_site(with_rows(request, row(case_id=b)))  # its row is gone
    index_site(request)  # and so is the manifest
    assert case_files(request) == {b, c}
    assert a not in made, "never cached"
    index_site(with_rows(request, row(case_id=a, opt_out=0)))
    assert case_files(request) == {a, b, c}
    assert read_opted_out(tmp_path / "memory") == {}


def test_a_patient_whose_images_are_gone_is_known_by_the_case(
    request_: IndexRequest, studies: dict[str, Study], tmp_path: Path
) -> None:
    request = replace(request_, memory=tmp_path / "memory")
    index_site(request)
    a, b, c = (case_id(study) for study in studies.values())
    whose = records(request)[a].patient_id
    assert request.dicom is not None
    shutil.rmtree(request.dicom / "a")
    index_site(with_rows(request, row(case_id=a, opt_out=1)))
    assert case_files(request) == {b, c}
    assert whose in read_opted_out(tmp_path / "memory")


def test_cases_of_one_who_objects_go_though_their_images_lie_elsewhere(
    request_: IndexRequest, studies: dict[str, Study], tmp_path: Path
) -> None:
    """Two studies of a patient come from two folders; he objects while one of them is looked into."""
    request = replace(request_, memory=tmp_path / "memory")
    index_site(request)
    again = make_study(patient="Doe^a", seed=7)
    save_study(again, tmp_path / "second" / "d")
    later = replace(request, dicom=tmp_path / "second")
    index_site(later)
    assert len(case_files(request)) == 4
    index_site(with_rows(later, row(case_id=case_id(again), opt_out=1)))
    assert case_files(request) == {case_id(studies["b"]), case_id(studies["c"])}


def test_a_changed_row_makes_its_study_anew(request_: IndexRequest, made: list[str], studies: dict[str, Study]) -> None:
    first, second = (case_id(studies[name]) for name in "ab")
    index_site(with_rows(request_, row(case_id=first, psa=4), row(case_id=second, psa=4)))
    made.clear()
    index_site(with_rows(request_, row(case_id=first, psa=4), row(case_id=second, psa=5)))
    assert made == [second]


def test_masks_of_the_manifest_reach_the_case_and_a_changed_one_makes_it_anew(
    request_: IndexRequest, made: list[str], studies: dict[str, Study]
) -> None:
    cells = {
        "case_id": case_id(studies["a"]),
        "lesion_mask": "masks/l.mha",
        "mask_space": "t2w",
        "mask_coding": "binary",
    }
    lesions = (
        LesionRow(case_id=cells["case_id"], lesion_id="1", mask_label=1, isup=1),
        LesionRow(case_id=cells["case_id"], lesion_id="2", mask_label=2, gleason="3+4"),
    )
    request = with_rows(request_, row(**cells), lesions=lesions)
    assert request.manifest_folder is not None
    path = request.manifest_folder / "masks" / "l.mha"
    path.parent.mkdir()
    mask = np.zeros((8, 32, 32), np.uint8)
    mask[2:4, 10:14, 10:14], mask[5:7, 18:22, 18:22] = 1, 2
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((0.4, 0.4, 3.0))
    image.SetOrigin((-6.2, -6.2, 0))
    sitk.WriteImage(image, str(path))
    index_site(request)
    cases = open_case_folder(request.out)
    at = [record.case_id for record in cases.records].index(cells["case_id"])
    assert cases.load(at)[1][2].sum() == 2 * 4 * 4  # the lesion of ISUP 2 alone
    assert cases.records[at].masks == ("lesion",)
    touch(path)
    made.clear()
    index_site(request)
    assert made == [cells["case_id"]]


def test_rows_that_name_image_files_become_cases(request_: IndexRequest, tmp_path: Path) -> None:
    request = with_rows(
        request_, row(case_id="x1", patient_key="p", t2w="x.mha", adc="adc.nii.gz", hbv="hbv.nrrd", psa=3)
    )
    assert request.manifest_folder is not None
    rng = np.random.default_rng(0)
    for path in ("x.mha", "adc.nii.gz", "hbv.nrrd"):
        image = sitk.GetImageFromArray(rng.normal(1000, 50, (8, 32, 32)).astype(np.float32))
        image.SetSpacing((0.4, 0.4, 3.0))
        image.SetMetaData("0010|0010", "Doe")
        sitk.WriteImage(image, str(request.manifest_folder / path))
    found = index_site(replace(request, dicom=None))
    assert [(each["study"], each["status"]) for each in found["studies"]] == [
        (make_pseudonym(SECRET, "case", "x1"), "ready")
    ]
    assert next(iter(records(request).values())).psa == 3
    assert index_site(replace(request, dicom=None))["counts"]["reused"] == 1
    gone = replace(request, dicom=None, manifest=Manifest((row(case_id="y", t2w="x.mha"),)))
    assert index_site(gone)["counts"]["removed"] == 1


def test_without_a_dicom_folder_its_rows_are_not_judged(request_: IndexRequest) -> None:
    found = index_site(with_rows(replace(request_, dicom=None), row(case_id="x", dicom_dir="a")))
    assert found["studies"] == []


def test_nothing_of_a_patient_is_written_or_said(request_: IndexRequest, capfd: pytest.CaptureFixture[str]) -> None:
    assert request_.dicom is not None
    (request_.dicom / "b" / "adc" / "004.dcm").unlink()
    (request_.dicom / "c").rename(request_.dicom / "Doe^John")
    found = json.dumps(index_site(request_))
    written = b"".join(path.read_bytes() for path in request_.out.iterdir())
    said = found + "".join(capfd.readouterr())
    for secret in ("Doe^", "John", "GENERATED", "20260102", str(request_.dicom), "1.2.826"):
        assert secret not in said
        assert secret.encode() not in written
    assert all(
        re.fullmatch(r"[0-9a-f]{16}\.safetensors|index\.json|series_map\.csv", path.name)
        for path in request_.out.iterdir()
    )


@pytest.mark.data
def test_the_real_study_indexes(data_folder: Path, tmp_path: Path) -> None:
    grid = replace(GRID, spacing_mm=(3.0, 0.5, 0.5), size=(20, 256, 256))
    request = IndexRequest(data_folder / "prostatex_dicom", tmp_path / "cases", SECRET, grid, ALL, workers=1)
    (entry,) = index_site(request)["studies"]
    assert entry["status"] == "warning"
    assert [each["code"] for each in entry["findings"]] == ["PIRADS_MINIMUM"] * 2
    sources = {name: each["source"] for name, each in entry["sequences"].items()}
    assert sources == {"t2w": "acquired", "adc": "vendor map", "hbv": "scanner-calculated b=1000"}
    hole = replace(request, dicom=data_folder / "prostatex_dicom_missing_slice", out=tmp_path / "other")
    (entry,) = index_site(hole)["studies"]
    assert entry["status"] == "refused"
    assert {"MISSING_SLICE", "NO_T2"} <= {each["code"] for each in entry["findings"]}
