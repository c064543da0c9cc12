"""What every entry of METHODS promises."""

from dataclasses import fields, replace
from importlib import import_module

import pytest
import torch

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import build_network
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.method import Method
from prostafed.common.ssl.targets import follow
from prostafed.common.study import Pretrain
from prostafed.common.tensors import group_of, read_tensors, select_groups, write_tensors

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


def make(name: str, norm: str = "instance", seed: int = 0) -> tuple[Method, torch.nn.ModuleDict]:
    method = build_method(name, METHODS[name].parameters())
    network = build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=3,
        norm=norm,
        groups=method.heads,
        seed=seed,
        stage=1,
    )
    follow(network, method.targets, momentum=0.0)
    return method, network


def make_batch(reads: list[tuple[int, ...]]) -> tuple[torch.Tensor, list[CaseRecord]]:
    images = torch.randn(len(reads), 3, *SIZE, generator=torch.Generator().manual_seed(3))
    return images, [CaseRecord(str(i), str(i), pirads_reads=read) for i, read in enumerate(reads)]


def loss_of(
    method: Method, network: torch.nn.ModuleDict, images: torch.Tensor, records: list[CaseRecord], seed: int = 5
) -> torch.Tensor:
    views = method.views(images, SPACING, torch.Generator().manual_seed(seed))
    return method.loss(method.outputs(network, views), records)


def train(method: Method, network: torch.nn.ModuleDict, steps: int, advance: bool = True) -> None:
    images, records = make_batch([(4, 5), (2,), (5,), (), (1, 1)])
    views = method.views(images, SPACING, torch.Generator().manual_seed(5))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        compared = method.outputs(network, views)
        method.loss(compared, records).backward()
        optimiser.step()
        if advance and method.advance is not None:
            method.advance(network, compared)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_loss_falls_on_a_toy_set(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4, 5), (2,), (5,), (), (1, 1)])
        first = loss_of(method, network, images, records).item()
        train(method, network, steps=12, advance=False)  # against the queue and the targets of the start
        assert loss_of(method, network, images, records).item() < first - 0.01

    @pytest.mark.parametrize("reads", [[(4,), (4,)], [(), ()], [(3,), (3,)], [(5,)]])
    def test_gradients_are_finite_with_one_label_or_none(self, name: str, reads: list[tuple[int, ...]]) -> None:
        method, network = make(name)
        loss = loss_of(method, network, *make_batch(reads))
        loss.backward()
        assert torch.isfinite(loss)
        for parameter in network.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()

    def test_order_of_cases_does_not_matter(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4, 5), (2,), (5,), (), (1, 1)])
        order = [3, 0, 4, 1, 2]
        views = method.views(images, SPACING, torch.Generator().manual_seed(5))
        loss = method.loss(method.outputs(network, views), records)
        permuted = method.outputs(network, tuple(view[order] for view in views))
        assert torch.allclose(method.loss(permuted, [records[i] for i in order]), loss, atol=1e-4, rtol=1e-4)

    def test_it_decomposes_per_case_only_if_it_says_so(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4, 5), (2,), (5,)])
        views = method.views(images, SPACING, torch.Generator().manual_seed(5))
        whole = method.loss(method.outputs(network, views), records)
        alone = [
            method.loss(method.outputs(network, tuple(view[i : i + 1] for view in views)), records[i : i + 1])
            for i in range(3)
        ]
        decomposes = torch.allclose(whole, torch.stack(alone).mean(), atol=1e-5)
        assert decomposes or not method.decomposes_per_sample
        assert METHODS[name].decomposes == method.decomposes_per_sample, "the table says it without torch"
        if name != "moco":  # a case's loss depends on others through the queue, not within a batch
            assert decomposes == method.decomposes_per_sample

    def test_same_seed_same_loss_other_seed_other_views(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4,), (2,), ()])
        assert loss_of(method, network, images, records, 5) == loss_of(method, network, images, records, 5)
        assert loss_of(method, network, images, records, 5) != loss_of(method, network, images, records, 6)

    def test_same_seed_same_training(self, name: str) -> None:
        states = []
        for _ in range(2):
            method, network = make(name)
            train(method, network, steps=2)
            states.append(network.state_dict())
        assert all(torch.equal(states[0][tensor], states[1][tensor]) for tensor in states[0])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_outputs_in_half_precision_give_nearly_the_same_loss(self, name: str, dtype: torch.dtype) -> None:
        method, network = make(name)
        images, records = make_batch([(4, 5), (2,), (5,), ()])
        views = method.views(images, SPACING, torch.Generator().manual_seed(5))
        full = method.loss(method.outputs(network, views), records)
        with torch.autocast("cpu", dtype):
            compared = method.outputs(network, views)
        half = method.loss(compared, records)
        assert half.dtype == torch.float32
        assert torch.allclose(half, full, rtol=0.05, atol=0.02)
        half.backward()
        for parameter in network.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()

    def test_state_survives_a_round_trip(self, name: str) -> None:
        method, network = make(name)
        train(method, network, steps=2)
        images, records = make_batch([(4,), (2,), (5, 5)])
        _, other = make(name, seed=1)
        assert loss_of(method, other, images, records) != loss_of(method, network, images, records)
        write_tensors(other, read_tensors(network))
        assert loss_of(method, other, images, records) == loss_of(method, network, images, records)

    def test_what_is_shared_exists_and_nothing_else_travels(self, name: str) -> None:
        method, network = make(name)
        groups = {group_of(tensor) for tensor in network.state_dict()}
        stage = Pretrain(kind="pretrain", rounds=1, method=name)
        assert groups == {"encoder", *method.heads}
        assert set(stage.share) == set(METHODS[name].shared) <= groups
        assert {group_of(tensor) for tensor in select_groups(read_tensors(network), stage.share)} == set(stage.share)
        entry = METHODS[name]
        for group in groups - {*entry.shared, *entry.predictor}:
            with pytest.raises(ValueError, match="share"):
                Pretrain(kind="pretrain", rounds=1, method=name, share=("encoder", group))

    def test_with_learned_transforms_it_trains_too_and_shares_no_more(self, name: str) -> None:
        chosen = METHODS[name].parameters
        if "learned_transforms" not in {field.name for field in fields(chosen)}:
            assert "projection" not in METHODS[name].shared
            return
        method = build_method(name, replace(chosen(), learned_transforms=True))
        network = build_network(
            sequences=3,
            spacing_mm=SPACING,
            size=SIZE,
            width=4,
            stages=3,
            norm="group",
            groups=method.heads,
            seed=0,
            stage=1,
        )
        train(method, network, steps=2)
        loss = loss_of(method, network, *make_batch([(4, 5), (2,), ()]))
        loss.backward()
        assert torch.isfinite(loss)
        assert network["transforms"].raw.grad.any()
        assert not {"transforms", "judge"} & set(METHODS[name].shared)

    def test_targets_are_neither_shared_nor_trained(self, name: str) -> None:
        method, network = make(name)
        assert set(method.targets) <= set(method.heads) - set(METHODS[name].shared)
        assert set(method.targets.values()) <= set(METHODS[name].shared)
        loss_of(method, network, *make_batch([(4, 5), (2,)])).backward()
        for tensor, parameter in network.named_parameters():
            if group_of(tensor) in method.targets:
                assert parameter.grad is None

    def test_the_network_has_no_statistics_that_averaging_breaks(self, name: str) -> None:
        for norm in ("instance", "group"):
            _, network = make(name, norm)
            assert not [tensor for tensor in network.state_dict() if "running" in tensor or "num_batches" in tensor]

    def test_its_module_says_what_the_documentation_says(self, name: str) -> None:
        about = import_module(METHODS[name].module).ABOUT
        assert all(vars(about).values())
