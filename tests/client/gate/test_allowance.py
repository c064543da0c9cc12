"""What may leave in a stage follows from the study, whatever is trained."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from prostafed.client.gate import allowance
from prostafed.client.gate.allowance import allow
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.compression import list_slots
from prostafed.common.models import ENCODERS
from prostafed.common.ssl import METHODS
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tasks import TASKS
from prostafed.common.tensors import read_tensors
from tests.client.tiny_site import FINETUNE, make_study

STAGES = [{"kind": "pretrain", "method": name, "rounds": 1} for name in METHODS]
STAGES += [{"kind": "finetune", "task": name, "rounds": 1} for name in TASKS]
SCAFFOLD = {**FINETUNE, "aggregate": "scaffold", "optimiser": "sgd"}


def check(study: Study) -> None:
    """Hold what is allowed against the network that is trained."""
    for number, stage in enumerate(study.stage, start=1):
        network, sends = build_stage_network(study, number), AGGREGATORS[stage.aggregate].sends
        tensors, shared = read_tensors(network), shared_names(network, stage)
        floating = [name for name in shared if np.issubdtype(tensors[name].dtype, np.floating)] if sends else []
        expected = {name: tensors[name] for name in shared} | {sends + name: tensors[name] for name in floating}
        allowed = allow(study.canonical(), number)
        looks = {name: (array.dtype, array.shape) for name, array in allowed.update.items()}
        assert looks == {name: (array.dtype, array.shape) for name, array in expected.items()}
        assert allowed.payload == list_slots(expected, study.round.compress, study.round.top_fraction)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_stage_allows_the_tensors_of_its_network_that_the_study_shares(encoder: str) -> None:
    check(make_study(*STAGES, model={"encoder": encoder, "width": 4, "resolutions": 2}))


@pytest.mark.parametrize("compress", ["none", "float16", "topk"])
@pytest.mark.parametrize("stage", [FINETUNE, {**FINETUNE, "share": []}, {**FINETUNE, "local": ["norm"]}])
def test_local_parts_and_compression_count(compress: str, stage: dict[str, Any]) -> None:
    check(make_study(stage, round={"compress": compress}))


def test_control_variates_are_allowed_beside_what_is_shared() -> None:
    check(make_study(SCAFFOLD))
    assert any(name.startswith("control.") for name in allow(make_study(SCAFFOLD).canonical(), 1).update)


def test_it_is_worked_out_once_per_study_and_stage_and_draws_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    allow.cache_clear()
    devices = []
    build = build_stage_network

    def watch(study: Study, number: int) -> torch.nn.ModuleDict:
        network = build(study, number)
        devices.extend({tensor.device.type for tensor in network.state_dict().values()})
        return network

    monkeypatch.setattr("prostafed.client.gate.allowance.build_stage_network", watch)
    study = make_study(FINETUNE, SCAFFOLD)
    for _ in range(3):
        for number in (1, 2):
            allow(study.canonical(), number)
    assert devices == ["meta", "meta"]


def test_a_network_that_needs_values_while_it_is_built_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(study: Study, number: int) -> torch.nn.ModuleDict:
        torch.linspace(0, 0.1, 4)[1].item()  # as a drop path rate is drawn
        return build_stage_network(study, number)

    monkeypatch.setattr(allowance, "build_stage_network", build)
    study = make_study(FINETUNE, name="needs-values")
    assert set(allow(study.canonical(), 1).update) == shared_names(build_stage_network(study, 1), study.stage[0])


def test_a_prefix_that_the_networks_names_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATORS, "scaffold", replace(AGGREGATORS["scaffold"], sends="encoder."))
    with pytest.raises(ConfigurationError, match=r"sends 'encoder\.' beside the network, which has a tensor encoder"):
        allow(make_study(SCAFFOLD, name="collides").canonical(), 1)
