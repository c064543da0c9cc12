"""Instances as studies: what is grouped, what is kept, what is said."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.ingest.records import DicomStudy, Header, Slice
from prostafed.client.ingest.scan import grouping, repeats
from prostafed.client.ingest.scan.grouping import make_study
from prostafed.client.ingest.scan.instances import Instance, SliceGroup
from prostafed.client.ingest.scan.sorting import group_series

Make = Callable[..., Instance]


@pytest.fixture
def make() -> Make:
    """One instance of a T2W series; `header` changes its header, other keywords the instance."""
    count = Counter[str]()

    def make(
        header: dict[str, Any] | None = None, b_value: float | None = None, height_mm: float = 0.0, **values: Any
    ) -> Instance:
        count["files"] += 1
        number = count["files"]
        path = Path(f"/root/{number}")
        words = {"words": "t2 tse", "image_type": ("ORIGINAL", "PRIMARY"), "modality": "MR", "manufacturer": ""}
        numbers = {"echo_time_ms": 100.0, "repetition_time_ms": 5e3, "slice_thickness_mm": 3.0, "time_points": 1}
        rest = {"samples_per_pixel": 1, "transfer_syntax": "", "quantity": ""}
        flags = {"contrast": False, "lossy": False, "burned_in": False, "body_part": "PROSTATE", "patient_sex": "M"}
        of_series = Header(**(words | numbers | rest | flags | (header or {})))
        plane = Slice(
            path, 0, "", number, 4, 6, (0.0, 0.0, height_mm), (1.0, 0, 0, 0, 1, 0), (1.0, 1.0), b_value, False, 1, 0
        )
        defaults = {"study": "1", "series": "1.1", "series_number": 1, "uid": f"1.1.{number}", "patient": "P"}
        defaults |= {"issuer": "", "patient_age": None, "study_date": "", "birth_date": "", "generated": False}
        return Instance(path=path, groups=(SliceGroup(of_series, (plane,)),), **(defaults | values))

    return make


def study_of(instances: Sequence[Instance], size: int = 1, **unusable: int) -> DicomStudy:
    return make_study(instances, {each.path: size for each in instances}, Counter(unusable))


def get_texts(study: DicomStudy) -> dict[str, str]:
    return {each.code: each.text for each in study.findings}


def test_a_series_is_what_shares_uid_image_type_and_echo_time(make: Make) -> None:
    parts = [
        make(),
        make({"image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}),
        make(),
        make({"echo_time_ms": 80.0}),
        make(series="1.2"),
        make({"echo_time_ms": None}, series="1.3"),
        make({"echo_time_ms": None}, series="1.3"),
    ]
    series = group_series(parts)
    assert [[each.path.name for each in one.slices] for one in series] == [["1", "3"], ["2"], ["4"], ["5"], ["6", "7"]]
    assert [each.kind for each in series] == ["t2w", "adc", "t2w", "t2w", "t2w"]


@pytest.mark.parametrize(("echoes", "kind"), [((80.0, 100.0), "t2w"), ((20.0, 80.0, 100.0), "other")])
def test_the_echoes_a_map_is_made_from_are_no_t2_weighted_series(
    make: Make, echoes: tuple[float, ...], kind: str
) -> None:
    apart = make(series="1.2")
    series = group_series([*(make({"echo_time_ms": echo}) for echo in echoes), apart])
    assert [each.kind for each in series] == [*[kind] * len(echoes), "t2w"]


@pytest.mark.parametrize(
    ("heights", "b_values", "expected"),
    [((0, 3, 6), (None,) * 3, 1), ((0, 3, 0, 3, 0), (None,) * 5, 3), ((0, 0, 3, 3), (0, 800, 0, 800), 1)],
)
def test_time_points_are_how_often_a_place_was_imaged(
    make: Make, heights: tuple[float, ...], b_values: tuple[float | None, ...], expected: int
) -> None:
    instances = [make(height_mm=height, b_value=b) for height, b in zip(heights, b_values, strict=True)]
    (series,) = group_series(instances)
    assert series.header.time_points == expected


def test_time_points_of_the_header_count_too(make: Make) -> None:
    (series,) = group_series([make({"time_points": 20, "repetition_time_ms": 5.0, "words": ""})])
    assert (series.header.time_points, series.kind) == (20, "dce")


def test_what_is_known_of_a_study(make: Make) -> None:
    instances = [make(patient=""), make(patient_age=66, study_date="20200102"), make(generated=True)]
    study = study_of(instances, size=5)
    assert (study.uid, study.patient, study.patient_age, study.study_date) == ("1", "P", 66, "20200102")
    assert (study.bytes, study.folder, study.generated, study.findings) == (15, Path("/root"), True, ())


def test_without_a_patient_id_each_study_is_a_patient_of_its_own(make: Make) -> None:
    assert study_of([make(patient="", study="1.5")]).patient == "study 1.5"


def test_a_patient_is_named_with_the_issuer_wherever_it_stands(make: Make) -> None:
    study = study_of([make(patient=""), make(), make(issuer="north")])
    assert (study.patient, study.findings) == ("north P", ())
    assert study_of([make(patient="", issuer="north")]).patient == "study 1"


def test_several_patients_in_a_study(make: Make) -> None:
    study = study_of([make(), make(patient="Q"), make(patient="")])
    assert "found 2 patient ids" in get_texts(study)["SEVERAL_PATIENTS"]
    assert study_of([make(), make(patient="")]).findings == ()


def test_of_a_repeated_instance_the_first_is_kept_in_its_place(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "digest_pixels", lambda path: "the same")
    instances = [make(uid="a"), make(uid="b"), make(uid="a"), make(uid="c")]
    study = study_of(instances)
    assert [each.path.name for each in study.series[0].slices] == ["1", "2", "4"]
    assert get_texts(study)["DUPLICATE_INSTANCE"].startswith("DUPLICATE_INSTANCE case=-: 1 file repeat")
    assert study.findings[0].severity == "W"


def test_instances_without_a_uid_are_not_the_same(make: Make) -> None:
    study = study_of([make(uid=""), make(uid="")])
    assert len(study.series[0].slices) == 2
    assert study.findings == ()


def test_a_repeated_file_that_was_cut_refuses_only_where_it_is_used(make: Make) -> None:
    whole, cut, other = make(uid="a"), make(uid="a", truncated=True), make(uid="b", truncated=True)
    for instances in ([whole, cut], [cut, whole]):
        study = study_of(instances)
        assert "TRUNCATED" not in get_texts(study)
        assert [each.path for each in study.series[0].slices] == [whole.path]
    assert "found 1 file cut short" in get_texts(study_of([cut, cut]))["TRUNCATED"]
    assert "found 1 file cut short" in get_texts(study_of([other, whole]))["TRUNCATED"]


def test_files_that_cannot_be_used_are_counted(make: Make) -> None:
    texts = get_texts(study_of([make(), make(truncated=True)], TRUNCATED=2, EMPTY_FILE=1))
    assert texts == {
        "EMPTY_FILE": "EMPTY_FILE case=-: expected images, found 1 file of 0 bytes; export again.",
        "TRUNCATED": "TRUNCATED case=-: expected whole images, found 3 files cut short; copy or export again.",
    }


@pytest.mark.parametrize(("size", "files"), [(3, 3), (2, 4)])
def test_a_study_too_large(make: Make, monkeypatch: pytest.MonkeyPatch, size: int, files: int) -> None:
    monkeypatch.setattr(grouping, "MAX_STUDY_BYTES", 8)
    monkeypatch.setattr(grouping, "MAX_STUDY_FILES", 3)
    assert "STUDY_TOO_LARGE" in get_texts(study_of([make() for _ in range(files)], size=size))
    assert study_of([make() for _ in range(3)], size=2).findings == ()


@pytest.mark.parametrize(
    ("header", "code", "severity"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "MOSAIC")}, "MOSAIC", "W"),
        ({"patient_sex": "F"}, "ASK_ANATOMY", "W"),
        ({"body_part": "BRAIN"}, "ASK_ANATOMY", "W"),
        ({"burned_in": True}, "BURNED_IN", "F"),
        ({"lossy": True}, "LOSSY", "W"),
    ],
)
def test_what_is_said_of_series(make: Make, header: dict[str, Any], code: str, severity: str) -> None:
    study = study_of([make(), make(header, series="1.2")])
    assert [(each.code, each.severity) for each in study.findings] == [(code, severity)]
    assert study_of([make()]).findings == ()


@pytest.mark.parametrize("flag", ["burned_in", "lossy"])
def test_screenshots_may_have_text_and_loss(make: Make, flag: str) -> None:
    screenshot = {"image_type": ("DERIVED", "SECONDARY", "SCREEN SAVE"), flag: True}
    assert study_of([make(), make(screenshot)]).findings == ()


@pytest.mark.parametrize("part", ["", "PELVIS", "PROSTATE", "ABDOMEN", "LSPINE"])
def test_body_parts_that_may_be_a_slip_of_the_hand(make: Make, part: str) -> None:
    assert study_of([make({"body_part": part})]).findings == ()
