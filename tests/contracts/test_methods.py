"""What every entry of METHODS promises."""

import pytest
import torch

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import build_network
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.method import Method
from prostafed.common.tensors import group_of

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


def make(name: str, norm: str = "instance") -> tuple[Method, torch.nn.ModuleDict]:
    method = build_method(name, METHODS[name].parameters())
    network = build_network(
        sequences=3, spacing_mm=SPACING, size=SIZE, width=4, stages=3, norm=norm, groups=method.heads, seed=0, stage=1
    )
    return method, network


def make_batch(reads: list[tuple[int, ...]]) -> tuple[torch.Tensor, list[CaseRecord]]:
    images = torch.randn(len(reads), 3, *SIZE, generator=torch.Generator().manual_seed(3))
    return images, [CaseRecord(str(i), str(i), pirads_reads=read) for i, read in enumerate(reads)]


def loss_of(
    method: Method, network: torch.nn.ModuleDict, images: torch.Tensor, records: list[CaseRecord], seed: int = 5
) -> torch.Tensor:
    views = method.views(images, SPACING, torch.Generator().manual_seed(seed))
    return method.loss(method.outputs(network, views), records)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_loss_falls_on_a_toy_set(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4, 5), (2,), (5,), (), (1, 1)])
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        first = loss_of(method, network, images, records).item()
        for _ in range(12):
            optimiser.zero_grad()
            loss_of(method, network, images, records).backward()
            optimiser.step()
        assert loss_of(method, network, images, records).item() < first - 0.01

    @pytest.mark.parametrize("reads", [[(4,), (4,)], [(), ()], [(3,), (3,)], [(5,)]])
    def test_gradients_are_finite_with_one_label_or_none(self, name: str, reads: list[tuple[int, ...]]) -> None:
        method, network = make(name)
        loss = loss_of(method, network, *make_batch(reads))
        loss.backward()
        assert torch.isfinite(loss)
        for parameter in network.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()

    def test_same_seed_same_loss_other_seed_other_views(self, name: str) -> None:
        method, network = make(name)
        images, records = make_batch([(4,), (2,), ()])
        assert loss_of(method, network, images, records, 5) == loss_of(method, network, images, records, 5)
        assert loss_of(method, network, images, records, 5) != loss_of(method, network, images, records, 6)

    def test_shared_groups_exist(self, name: str) -> None:
        _, network = make(name)
        groups = {group_of(tensor) for tensor in network.state_dict()}
        assert set(METHODS[name].shared) <= groups

    def test_the_network_has_no_statistics_that_averaging_breaks(self, name: str) -> None:
        for norm in ("instance", "group"):
            _, network = make(name, norm)
            assert not [tensor for tensor in network.state_dict() if "running" in tensor or "num_batches" in tensor]
