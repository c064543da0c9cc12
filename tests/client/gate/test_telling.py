"""What a site tells of few patients: that they are few. By hand, and by what an adversary could work out."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.client.gate.checks import Bounds
from prostafed.client.gate.release import release
from prostafed.client.gate.telling import counts_few, describe, describe_loss, list_told_splits
from prostafed.client.rounds import answer as work
from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.site.site_file import Site
from prostafed.common.exchange.arrays import NOTHING
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.metrics.cohort import count_cohort
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.small_cells import MINIMUM
from prostafed.common.metrics.summary import CASE_STATISTICS, LESION_STATISTICS
from prostafed.common.tasks import build_task
from tests.client.tiny_site import BYOL, FINETUNE, GRID, SEQUENCES, ask, initial, make_study, write_site

HOSPITAL = Site(name="north").minimum_cell
CLASSIFIED, LESIONED = set(CASE_STATISTICS), set(LESION_STATISTICS)


def make(positives: int, negatives: int, unknown: int = 0, lesions: int = 0, studies: int = 1) -> list[CasePrediction]:
    """Patients with csPCa, without, and of unknown diagnosis; `lesions` of the first have one; each has `studies`."""
    labels = [True] * positives + [False] * negatives + [None] * unknown
    return [
        CasePrediction(
            f"{i}-{study}", f"p{i}", label, (i * 7 % 10) / 10, ((0.5, True),) * (i < lesions), int(i < lesions)
        )
        for i, label in enumerate(labels)
        for study in range(studies)
    ]


def statistics(told: dict[str, float]) -> set[str]:
    return {name for name in told if name in CLASSIFIED | LESIONED}


def withheld(told: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("withheld/"): value for name, value in told.items() if name.startswith("withheld/")}


def test_a_hospital_tells_of_ten_patients_or_more() -> None:
    assert HOSPITAL == MINIMUM == 10


@pytest.mark.parametrize("patients", [1, 2, 9])
@pytest.mark.parametrize("histograms", [True, False])
def test_of_few_patients_only_that_they_are_few(patients: int, histograms: bool) -> None:
    for positives in range(patients + 1):
        predictions = make(positives, patients - positives, lesions=positives, studies=2)
        assert describe(predictions, 0, HOSPITAL, histograms=histograms) == {"withheld/n": 10.0}, "patients, not cases"


@pytest.mark.parametrize(
    ("predictions", "expected", "missing"),
    [
        (make(10, 10, lesions=10), CLASSIFIED | LESIONED, set()),
        (make(10, 10), CLASSIFIED, set()),
        (make(0, 20), {"brier", "calibration_error"}, set()),  # nobody is no small group
        (make(20, 0), {"average_precision", "brier", "calibration_error"}, set()),
        (make(9, 30, lesions=9), set(), {"positives", "lesions"}),
        (make(30, 9), set(), {"positives"}),
        (make(9, 30, lesions=0), set(), {"positives"}),
        (make(9, 9, lesions=10), set(), {"positives", "lesions"}),  # 18 patients, 8 of them without a lesion
        (make(10, 10, lesions=9), CLASSIFIED, {"lesions"}),
        (make(10, 10, unknown=9, lesions=19), LESIONED - {"picai_score"}, {"positives"}),  # 29 less 20 are 9
        (make(10, 10, unknown=10), CLASSIFIED, set()),
        (make(0, 0, unknown=20), set(), set()),  # a task that does not judge csPCa
        (make(5, 5, studies=3), set(), {"positives"}),  # ten patients, five of each
        ([], set(), set()),
    ],
)
def test_what_rests_on_few_patients_is_withheld_with_a_word(
    predictions: list[CasePrediction], expected: set[str], missing: set[str]
) -> None:
    told = describe(predictions, 0, HOSPITAL, histograms=True)
    assert statistics(told) == expected
    assert withheld(told) == dict.fromkeys(missing, 10.0)
    assert ("positives" in told) == bool(
        "positives" not in missing and any(each.label is not None for each in predictions)
    )
    assert any(name.startswith("score_histogram") for name in told) == ("positives" in told)
    assert any(name.startswith("detection_histogram") for name in told) == bool(LESIONED & expected)
    assert {
        name.removesuffix("_low").removesuffix("_high") for name in told if name.endswith(("_low", "_high"))
    } <= expected
    metrics = {f"test/{name}": value for name, value in told.items()}
    release(
        Reply("north", metrics=metrics), NOTHING, Bounds("north", "", Request("evaluate", splits=("test",)), HOSPITAL)
    )


def test_a_measure_is_told_of_those_who_have_it() -> None:
    cases = [
        CasePrediction(str(i), f"p{i}", None, None, measures={"gland_dice": 0.5, **({"pz_dice": 0.9} if i < 9 else {})})
        for i in range(12)
    ]
    told = describe(cases, 0, HOSPITAL)
    assert "gland_dice" in told
    assert "pz_dice" not in told
    assert withheld(told) == {"pz_dice": 10.0}


def read(grades: list[int]) -> list[CaseRecord]:
    return [CaseRecord(f"c{i}", f"p{i}", cspca=False, pirads_reads=(grade,)) for i, grade in enumerate(grades)]


@pytest.mark.parametrize(
    ("grades", "few"), [([2] * 12, False), ([2] * 11 + [3], True), ([2] * 12 + [3] * 12, False), ([5] * 11 + [4], True)]
)
def test_what_a_mean_would_count_few_of_is_withheld(grades: list[int], few: bool) -> None:
    """A network that says one grade of all has a mean score, and a loss, that counts who has another."""
    task, records = build_task("pirads"), read(grades)
    assert counts_few(records, task.counted, HOSPITAL) == few
    assert set(describe_loss(0.5, records, task.counted, HOSPITAL)) == {"withheld/loss" if few else "loss"}
    predictions = [
        CasePrediction(each.case_id, each.patient_id, None, 0.5, measures={"pirads_rps": 0.1}) for each in records
    ]
    told = describe(predictions, 0, HOSPITAL, measures=not few)
    assert ("pirads_rps" in told) != few
    assert withheld(told) == ({"pirads_rps": 10.0} if few else {})


def test_a_site_asks_what_its_task_counts(tmp_path: Path) -> None:
    """12 of its patients are judged, three of each grade: 10 are needed of each side of each threshold."""
    pirads = {"kind": "finetune", "task": "pirads", "rounds": 1, "batch_size": 6}
    study = make_study(pirads)
    study = study.model_copy(update={"data": study.data.model_copy(update={"validation_fraction": 0.4})})
    write_site(tmp_path, "minimum_cell = 5", cases=30)
    place = open_workplace(tmp_path / "site.toml", study.canonical())
    for action, splits in (("train", ()), ("evaluate", ("validation",))):
        told = work.answer(place, replace(ask(study, 1, initial(study)), action=action, splits=splits)).metrics
        assert not [name for name in told if name.endswith(("/loss", "_rps")) and "withheld" not in name], told


def test_where_the_minimum_is_one_everything_is_told() -> None:
    told = describe(make(1, 1, lesions=1), 0, 1, histograms=True)
    assert statistics(told) == CLASSIFIED | LESIONED
    assert not withheld(told)


def describe_twice(predictions: list[CasePrediction], one: int) -> tuple[dict[str, float], dict[str, float]]:
    """What is told of the patients as they are, and with the diagnosis of one of them turned round."""
    turned = replace(predictions[one], label=not predictions[one].label)
    return (
        describe(predictions, 0, HOSPITAL),
        describe([*predictions[:one], turned, *predictions[one + 1 :]], 0, HOSPITAL),
    )


@given(st.integers(0, 9), st.integers(0, 9), st.data())
@settings(max_examples=50, deadline=None)
def test_of_few_patients_nobodys_score_or_label_shows(positives: int, negatives: int, data: st.DataObject) -> None:
    total = positives + negatives
    if not 0 < total < HOSPITAL:
        return
    before, after = describe_twice(make(positives, negatives), data.draw(st.integers(0, total - 1)))
    assert before == after


CSPCA = {True: "yes", False: "no", None: "unknown"}


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[CaseRecord], dict[str, list[int]]]:
    """A site's patients by diagnosis, and their splits."""
    records: list[CaseRecord] = []
    splits: dict[str, list[int]] = {}
    for split in ("train", "validation", "test"):
        first = len(records)
        for label in (True, False, None):
            for _ in range(draw(st.one_of(st.integers(0, 3), st.integers(0, 40)))):
                records.append(CaseRecord(f"c{len(records)}", f"p{len(records)}", cspca=label))
        splits[split] = list(range(first, len(records)))
    return records, splits


@given(sites(), st.sampled_from([2, 5, 10]))
@settings(max_examples=300, deadline=None)
def test_no_sum_or_difference_of_what_is_told_is_a_small_count(
    site: tuple[list[CaseRecord], dict[str, list[int]]], minimum: int
) -> None:
    """Per split: n, positives; of all: the cohort. An adversary adds and subtracts counts of parts and wholes."""
    records, splits = site
    cohort = count_cohort(records, minimum)
    telling = list_told_splits(records, splits, lambda record: record.cspca is not None, minimum)
    known: dict[str, dict[str, float]] = {}  # split -> diagnosis -> patients
    for split in ("test", "validation"):
        judged = [records[index] for index in splits[split] if records[index].cspca is not None]
        predictions = [CasePrediction(each.case_id, each.patient_id, each.cspca, 0.5) for each in judged]
        told = describe(predictions, 0, minimum, diagnoses=split in telling, histograms=True)
        assert "n" not in told or told["n"] == 0 or told["n"] >= minimum
        if "positives" in told:
            known[split] = {"yes": told["positives"], "no": told["n"] - told["positives"]}
    for value in ("yes", "no"):
        for size in range(len(known) + 1):
            for chosen in combinations(known, size):
                taken = sum(known[split][value] for split in chosen)
                assert taken == 0 or taken >= minimum
                if f"csPCa/{value}" in cohort:
                    left = cohort[f"csPCa/{value}"] - taken
                    assert left == 0 or left >= minimum, (chosen, value)


def test_a_count_that_the_cohort_would_give_away_is_withheld() -> None:
    labels = [True] * 12 + [False] * 12 + [True] * 3 + [False] * 30
    records = [CaseRecord(f"c{i}", f"p{i}", cspca=label) for i, label in enumerate(labels)]
    splits = {"train": list(range(24, 57)), "validation": [], "test": list(range(24))}
    assert count_cohort(records)["csPCa/yes"] == 15.0, "less 12 of the test split are 3"
    assert "test" not in list_told_splits(records, splits, lambda record: True, 10)
    assert "test" in list_told_splits(records, {**splits, "train": splits["train"][3:]}, lambda record: True, 3)


def list_splits(sizes: dict[str, int], judged: int = 10**9) -> frozenset[str]:
    """Return what is told of splits of so many patients with csPCa; the first `judged` of each have an annotation."""
    records: list[CaseRecord] = []
    splits: dict[str, list[int]] = {}
    for split, size in sizes.items():
        masks = [("lesion",) if number < judged else () for number in range(size)]
        splits[split] = list(range(len(records), len(records) + size))
        records += [
            CaseRecord(f"{split}{number}", f"{split}{number}", cspca=True, masks=has)
            for number, has in enumerate(masks)
        ]
    return list_told_splits(records, splits, lambda record: "lesion" in record.masks, 10)


def test_the_test_split_comes_first_and_who_is_not_judged_counts_among_the_rest() -> None:
    assert list_splits({"train": 3, "validation": 12, "test": 12}) == {"test"}
    assert list_splits({"train": 30, "validation": 12, "test": 12}) == {"test", "validation", "train"}
    assert "test" not in list_splits({"train": 5, "validation": 0, "test": 17})
    assert "test" in list_splits({"train": 5, "validation": 0, "test": 17}, judged=12), "5 and 5 are left"


@pytest.mark.parametrize("cohort", [True, False])
def test_who_tells_of_the_cohort_tells_less_of_a_split(tmp_path: Path, cohort: bool) -> None:
    """15 with csPCa and 12 of them in the test split: with the 15 known, 3 to train with would be."""
    study = make_study(FINETUNE)
    keys = f"minimum_cell = {HOSPITAL}\nsplits = 'splits.csv'\nshare_cohort = {str(cohort).lower()}"
    lines = [f"case{number},{'test' if number < 24 else 'train'}" for number in range(30)]
    (tmp_path / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    place = open_workplace(write_site(tmp_path, keys, cases=30), study.canonical())
    assert work.answer(place, Request("hello")).metrics.get("cohort/csPCa/yes") == (15.0 if cohort else None)
    told = work.answer(place, replace(ask(study, 3, initial(study)), action="evaluate", splits=("test",))).metrics
    assert ("test/withheld/positives" in told) == cohort
    assert ("test/positives" in told) != cohort
    assert told["test/n"] == 24.0


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A site of thirty patients with the hospital's minimum, and splits in its folder."""
    site_file = write_site(tmp_path, f"minimum_cell = {HOSPITAL}\nsplits = 'splits.csv'\nshare_cohort = true", cases=30)
    return site_file


@pytest.mark.parametrize("tested", [1, 9])
def test_a_small_test_split_says_nothing_of_a_score_or_label(hospital: Path, tested: int) -> None:
    """The same hospital with the diagnoses of its test patients turned round answers the same."""
    study = make_study(FINETUNE)
    names = [f"case{number}" for number in range(30)]
    sides = ["test"] * tested + ["validation"] * tested + ["train"] * (30 - 2 * tested)
    lines = [f"{name},{side}" for name, side in zip(names, sides, strict=True)]
    (hospital.parent / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    answers = []
    for turned in (False, True):
        open_workplace.cache_clear()
        if turned:
            for name in names[: 2 * tested]:
                turn(hospital.parent / "cases", name)
            for told in (hospital.parent / "memory" / "told").iterdir():
                told.unlink()
        place = open_workplace(hospital, study.canonical())
        request = replace(ask(study, 3, initial(study)), action="evaluate", splits=("validation", "test"))
        answers.append(work.answer(place, request))
    for answer in answers:
        assert answer.metrics == {"validation/withheld/n": 10.0, "test/withheld/n": 10.0}
        assert answer.cases == 0


def turn(folder: Path, name: str) -> None:
    record = CaseRecord(name, name, cspca=name[-1] not in "13579", sequences=dict.fromkeys(SEQUENCES, "acquired"))
    image = np.ones((3, *GRID.size), np.float16)
    write_case(folder, record, image, np.zeros((3, *GRID.size), np.uint8), GRID, SEQUENCES)


@pytest.mark.parametrize("stage", [FINETUNE, BYOL])
def test_the_loss_over_few_patients_is_withheld(tmp_path: Path, stage: dict[str, object]) -> None:
    study = make_study(stage)
    for cases, told in ((11, "train/withheld/loss"), (32, "train/loss")):  # 9 and 26 to train with
        site_file = write_site(tmp_path / str(cases), f"minimum_cell = {HOSPITAL}", cases)
        reply = work.answer(open_workplace(site_file, study.canonical()), ask(study))
        assert set(reply.metrics) == {"train/steps", told}


def test_without_diagnoses_no_lesions_are_counted() -> None:
    generator = np.random.default_rng(0)
    cases = [
        CasePrediction(f"c{k}", f"c{k}", k < 12, float(score), ((float(score), k < 12),), int(k < 12))
        for k, score in enumerate(generator.random(32))
    ]
    told = describe(cases, 0, HOSPITAL, diagnoses=False, histograms=True)
    assert told == {"n": 32.0, "withheld/positives": 10.0, "withheld/lesions": 10.0}


@pytest.mark.parametrize(("positives", "told"), [(5, "train/withheld/loss"), (15, "train/loss")])
def test_the_loss_of_a_constant_network_counts_nobody(tmp_path: Path, positives: int, told: str) -> None:
    """With an encoder of zeros the loss is the head's bias against the number of patients with csPCa."""
    study = make_study(FINETUNE)
    site_file = write_site(tmp_path, f"minimum_cell = {HOSPITAL}\nsplits = 'splits.csv'", cases=40)
    for number in range(40):
        name = f"case{number}"
        record = CaseRecord(name, name, cspca=number < positives, sequences=dict.fromkeys(SEQUENCES, "acquired"))
        image, masks = np.ones((3, *GRID.size), np.float16), np.zeros((3, *GRID.size), np.uint8)
        write_case(tmp_path / "cases", record, image, masks, GRID, SEQUENCES)
    lines = [f"case{number},{'train' if number < 36 else 'test'}" for number in range(40)]
    (tmp_path / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    zeros = {name: np.zeros_like(array) for name, array in initial(study).items()}
    reply = work.answer(open_workplace(site_file, study.canonical()), ask(study, tensors=zeros))
    assert set(reply.metrics) == {"train/steps", told}
