"""Metadata -> kernel, by hand."""

import math

import pytest
import torch

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.kernels import build_kernel, delta_kernel, psa_density, rbf_kernel
from prostafed.common.ssl.methods import KernelParameters


def make_record(
    reads: tuple[int, ...], psa: float | None = None, volume: float | None = None, age: float | None = None
) -> CaseRecord:
    return CaseRecord("case", "patient", pirads_reads=reads, psa=psa, prostate_volume=volume, age=age)


def test_delta_is_the_lesser_confidence_between_equal_labels() -> None:
    kernel = delta_kernel([0, 1, 1, None, None], [1.0, 0.6, 0.2, 0.0, 0.0])
    assert kernel[1, 2] == kernel[2, 1] == pytest.approx(0.2)
    kernel.fill_diagonal_(0.0)
    assert kernel.sum() == pytest.approx(0.4)


def test_rbf_falls_with_distance_and_knows_what_is_unknown() -> None:
    kernel = rbf_kernel([2.0, 4.0, None], width=2.0)
    expected = torch.tensor([[1.0, math.exp(-0.5), 0.0], [math.exp(-0.5), 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(kernel, expected.double())
    assert rbf_kernel([2.0, None], width=1.0, unknown=1.0).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_rbf_of_mean_scores_times_the_lesser_confidence() -> None:
    records = [make_record((4, 5, 4)), make_record((4, 4, 2)), make_record(())]
    kernel = build_kernel(records, KernelParameters(kernel="rbf", confidence="paper"))
    assert kernel[0, 1].item() == pytest.approx(math.exp(-0.5) / 3)  # means 13/3 and 10/3; confidences 1 and 1/3
    assert not kernel[2].any()
    assert build_kernel(records, KernelParameters())[0, 1].item() == pytest.approx(math.exp(-0.5))


def test_an_undecided_read_counts_without_a_confidence_rule_only() -> None:
    records = [make_record((3,)), make_record((3,))]
    assert build_kernel(records, KernelParameters(kernel="rbf", confidence="none"))[0, 1] == 1
    assert build_kernel(records, KernelParameters(kernel="rbf", confidence="code"))[0, 1] == 0
    assert build_kernel(records, KernelParameters(kernel="delta", confidence="none"))[0, 1] == 0


def test_product_leaves_out_what_one_of_the_two_lacks() -> None:
    first, second = (
        make_record((4,), psa=10.0, volume=50.0, age=60.0),
        make_record((4,), psa=9.0, volume=30.0, age=70.0),
    )
    records = [first, second, make_record((4,), age=70.0), make_record((4,), psa=6.0, volume=30.0)]
    kernel = build_kernel(records, KernelParameters(kernel="product"))
    assert kernel[0, 1].item() == pytest.approx(math.exp(-0.5) * math.exp(-0.5))  # densities 0.2, 0.3; ten years
    assert kernel[0, 2].item() == pytest.approx(math.exp(-0.5))
    assert kernel[1, 2].item() == 1
    assert kernel[0, 3].item() == pytest.approx(1.0)


def test_psa_density_by_hand() -> None:
    assert psa_density(make_record((), psa=6.0, volume=40.0)) == pytest.approx(0.15)
    for psa, volume in ((None, 40.0), (6.0, None), (6.0, 0.0)):
        assert psa_density(make_record((), psa, volume)) is None


@pytest.mark.parametrize("kernel", ["delta", "rbf", "product"])
@pytest.mark.parametrize("confidence", ["paper", "code", "none"])
def test_kernels_are_symmetric_within_0_and_1_and_positive_semidefinite(kernel: str, confidence: str) -> None:
    reads = [(4,), (2, 2, 1), (), (3,), (5, 4, 2), (1, 3, 3), (4, 2)]
    records = [make_record(each, psa=5.0 + i, volume=40.0 - i, age=60.0 + 2 * i) for i, each in enumerate(reads)]
    parameters = KernelParameters(kernel=kernel, confidence=confidence)  # type: ignore[arg-type]
    found = build_kernel(records, parameters)
    assert torch.equal(found, found.T)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.linalg.eigvalsh(found).min() > -1e-9
    order = [3, 0, 6, 1, 2, 5, 4]
    assert torch.equal(build_kernel([records[i] for i in order], parameters), found[order][:, order])
