"""What a study may ask of noise."""

from typing import Any

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study

FINETUNE = {"kind": "finetune", "task": "classify", "rounds": 1}
PATIENT, SITE = {"unit": "patient", "epsilon": 3.0}, {"unit": "site", "noise": 5.0}


def make(privacy: dict[str, Any], **stage: Any) -> Study:
    return parse({"name": "tiny", "stage": [{**FINETUNE, **stage}], "privacy": privacy}, Study, "test")


def pretraining(privacy: dict[str, Any], method: str) -> Study:
    stage = {"kind": "pretrain", "method": method, "rounds": 1}
    return parse({"name": "tiny", "stage": [stage, FINETUNE], "privacy": privacy}, Study, "test")


@pytest.mark.parametrize("method", ["conditional", "simclr", "moco", "vicreg"])
def test_noise_for_patients_is_refused_where_a_loss_compares_cases(method: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"compares the cases of a batch.*'byol' or 'restore' or 'sparse'.*unit = 'site'"
    ):
        pretraining(PATIENT, method)
    assert pretraining(SITE, method).privacy.unit == "site"


@pytest.mark.parametrize("method", ["restore", "sparse", "byol"])
def test_noise_for_patients_is_taken_where_a_loss_is_a_sum(method: str) -> None:
    assert pretraining(PATIENT, method).privacy.epsilon == 3.0


def test_noise_for_a_site_is_refused_where_tensors_leave_beside_the_update() -> None:
    with pytest.raises(ConfigurationError, match="'scaffold' in stage 1 sends tensors beside"):
        make(SITE, aggregate="scaffold", optimiser="sgd")
    assert make(PATIENT, aggregate="scaffold", optimiser="sgd").privacy.unit == "patient"


def test_noise_for_patients_is_refused_where_transformations_are_learnt() -> None:
    stage = {"kind": "pretrain", "method": "byol", "rounds": 1, "parameters": {"learned_transforms": True}}
    with pytest.raises(ConfigurationError, match="learned_transforms in stage 1"):
        parse({"name": "tiny", "stage": [stage], "privacy": PATIENT}, Study, "test")
