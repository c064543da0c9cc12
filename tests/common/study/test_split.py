"""Who is tested: the same patients whatever else a study says, never those a model it starts from was trained on."""

import json
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from prostafed.common.study.split import check_split, describe_split, split_patients

PRETRAIN = {"kind": "pretrain", "rounds": 1}
FILE = Path("model.safetensors")


def make_study(*stages: dict[str, Any], seed: int = 0, allow: bool = False, **data: Any) -> Study:
    start = {"weights": "checkpoint", "sha256": "0" * 64, "allow_other_split": True} if allow else {}
    values = {"name": "tiny", "seed": seed, "data": data, "initial": start, "stage": list(stages or [finetune()])}
    return parse(values, Study, "study")


def finetune(task: str = "classify", **keys: Any) -> dict[str, Any]:
    return {"kind": "finetune", "task": task, "rounds": 1, **keys}


def make_records(patients: int = 200) -> list[CaseRecord]:
    """Every second patient has a diagnosis, every fourth lesion contours too, every fifth a PI-RADS score."""
    return [
        CaseRecord(
            f"case-{number}",
            f"patient-{number}",
            cspca=number % 3 == 0 if number % 2 == 0 else None,
            masks=("lesion",) if number % 4 == 0 else (),
            pirads_reads=(3,) if number % 5 == 0 else (),
        )
        for number in range(patients)
    ]


def test_another_seed_method_or_label_budget_tests_the_same_patients() -> None:
    records = make_records()
    expected = split_patients(make_study(), records)
    assert len(expected["test"]) == 24, "a quarter of 34 patients with csPCa, a quarter of 66 without"
    for other in (make_study(seed=9), make_study(PRETRAIN, finetune(labels=0.1)), make_study(finetune(rounds=7))):
        assert split_patients(other, records) == expected
    assert split_patients(make_study(split_seed=1), records) != expected


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (make_study(PRETRAIN, seed=1), make_study(seed=2)),
        (make_study(PRETRAIN, seed=1), make_study(finetune("lesion"), seed=2)),
        (make_study(finetune("classify")), make_study(finetune("classify"), finetune("classify"), seed=3)),
        (make_study(finetune("classify"), finetune("pirads")), make_study(finetune("pirads"))),
    ],
)
def test_a_checkpoint_that_is_taken_saw_nobody_who_is_tested(first: Study, then: Study) -> None:
    records = make_records()
    check_split(then, {"split": describe_split(first)}, FILE)
    trained, tested = split_patients(first, records)["train"], split_patients(then, records)["test"]
    assert tested
    assert not set(trained) & set(tested)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (make_study(PRETRAIN, split_seed=1), "split_seed 1 instead of 0"),
        (make_study(PRETRAIN, test_fraction=0.5), "test_fraction 0.5 instead of 0.25"),
        (make_study(PRETRAIN, validation_fraction=0.2), "validation_fraction 0.2 instead of 0.1"),
        (make_study(PRETRAIN, sequences=("t2w", "hbv", "adc")), r'sequences \["t2w", "hbv", "adc"\] instead of'),
        (make_study(finetune("lesion")), "held out for classify here"),
        (make_study(finetune(), allow=True), "does not say which patients"),
    ],
)
def test_a_checkpoint_that_may_have_seen_test_patients_is_refused(first: Study, said: str) -> None:
    metadata = {"split": describe_split(first)}
    with pytest.raises(CheckpointError, match=rf"{said}.*allow_other_split = true in \[initial\]"):
        check_split(make_study(), metadata, FILE)
    check_split(make_study(allow=True), metadata, FILE)


def test_one_that_says_nothing_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not say which patients it was not trained on"):
        check_split(make_study(), {}, FILE)


def test_the_key_is_for_checkpoints() -> None:
    with pytest.raises(ConfigurationError, match="allow_other_split is for weights 'checkpoint'"):
        parse({**json.loads(make_study().canonical()), "initial": {"allow_other_split": True}}, Study, "study")
