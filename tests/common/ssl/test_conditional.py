"""The conditional loss: golden values, a slow readable reference, and what it must not depend on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl import build_method
from prostafed.common.ssl.conditional import conditional_alignment, decoupled_uniformity
from prostafed.common.ssl.kernels import delta_kernel, rbf_kernel
from prostafed.common.ssl.methods import ConditionalParameters

K = torch.arange(12, dtype=torch.float64).reshape(4, 3)
Z1, Z2 = normalize(torch.sin(K + 1)), normalize(torch.cos(0.7 * K + 0.3))
LABELS, CONFIDENCE = [0, 1, 1, None], [1.0, 0.6, 1 / 7, 0.0]


def reference_uniformity(z1: torch.Tensor, z2: torch.Tensor, scale: float) -> float:
    total, count = 0.0, len(z1)
    for z in (z1, z2):
        pairs = [
            math.exp(-scale * float(((z[i] - z[j]) ** 2).sum())) for i in range(count) for j in range(count) if i != j
        ]
        total += 0.5 * math.log(sum(pairs) / count**2)
    return total


def reference_alignment(z1: torch.Tensor, z2: torch.Tensor, labels: list[int | None], confidence: list[float]) -> float:
    views, count = [*z1, *z2], len(z1)

    def weight(i: int, j: int) -> float:
        first, second = i % count, j % count
        if i == j:
            return 0.0
        if first == second:
            return 1.0
        if labels[first] is None or labels[first] != labels[second]:
            return 0.0
        return min(confidence[first], confidence[second])

    total = 0.0
    for i in range(2 * count):
        row = sum(weight(i, k) for k in range(2 * count))
        total += sum(weight(i, j) / row * float(((views[i] - views[j]) ** 2).sum()) for j in range(2 * count))
    return total / count


def test_golden_values_of_the_authors_code() -> None:
    assert decoupled_uniformity(Z1, Z2).item() == pytest.approx(-1.602525, abs=1e-6)
    assert conditional_alignment(Z1, Z2, delta_kernel(LABELS, CONFIDENCE)).item() == pytest.approx(2.966366, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 10_000), scale=st.floats(0.2, 3.0))
def test_agrees_with_the_slow_reference(count: int, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (normalize(torch.randn(count, 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    labels = [[0, 1, None][int(torch.randint(3, (1,), generator=generator))] for _ in range(count)]
    confidence = [0.0 if label is None else float(torch.rand(1, generator=generator)) for label in labels]
    assert decoupled_uniformity(z1, z2, scale).item() == pytest.approx(reference_uniformity(z1, z2, scale), abs=1e-9)
    alignment = conditional_alignment(z1, z2, delta_kernel(labels, confidence))
    assert alignment.item() == pytest.approx(reference_alignment(z1, z2, labels, confidence), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z1, z2 = Z1.clone().requires_grad_(), Z2.clone().requires_grad_()
    kernel = delta_kernel(LABELS, CONFIDENCE)
    assert torch.autograd.gradcheck(decoupled_uniformity, (z1, z2))
    assert torch.autograd.gradcheck(lambda a, b: conditional_alignment(a, b, kernel), (z1, z2))


def test_order_of_cases_does_not_matter() -> None:
    order = [2, 0, 3, 1]
    kernel = delta_kernel([LABELS[i] for i in order], [CONFIDENCE[i] for i in order])
    assert torch.allclose(decoupled_uniformity(Z1[order], Z2[order]), decoupled_uniformity(Z1, Z2))
    expected = conditional_alignment(Z1, Z2, delta_kernel(LABELS, CONFIDENCE))
    assert torch.allclose(conditional_alignment(Z1[order], Z2[order], kernel), expected)


def test_an_unlabelled_case_attracts_only_its_own_other_view() -> None:
    nobody = delta_kernel([None] * 4, [0.0] * 4)
    own = 2 * ((Z1 - Z2) ** 2).sum(dim=1).mean()  # both directions, over N
    assert torch.allclose(conditional_alignment(Z1, Z2, nobody), own)


def test_more_agreement_between_readers_pulls_harder() -> None:
    z1, z2 = Z1.clone().requires_grad_(), Z2
    pulls = []
    for confidence in (0.1, 0.9):
        kernel = delta_kernel([1, 1, None, None], [confidence, confidence, 0.0, 0.0])
        (gradient,) = torch.autograd.grad(conditional_alignment(z1, z2, kernel), z1)
        pulls.append(float((gradient[0] * (z1[0] - z1[1]).detach()).sum()))
    assert pulls[1] > pulls[0]


@pytest.mark.parametrize("reads", [[()], [(4,)], [(), ()], [(4,), (4,)], [(3,), (2, 4)]])
def test_a_batch_of_one_case_one_label_or_no_label_has_a_finite_loss(reads: list[tuple[int, ...]]) -> None:
    method = build_method("conditional", ConditionalParameters())
    records = [CaseRecord(str(i), str(i), pirads_reads=read) for i, read in enumerate(reads)]
    z = normalize(torch.randn(len(reads), 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    loss = method.loss((z, z.flip(1)), records)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()  # type: ignore[arg-type]


def test_the_kernel_can_be_chosen() -> None:
    records = [CaseRecord("a", "a", pirads_reads=(4, 4, 5)), CaseRecord("b", "b", pirads_reads=(4, 5, 5))]
    method = build_method("conditional", ConditionalParameters(kernel="rbf", uniformity_weight=0.0))
    kernel = rbf_kernel([13 / 3, 14 / 3], 1.0)
    assert torch.allclose(method.loss((Z1[:2], Z2[:2]), records), conditional_alignment(Z1[:2], Z2[:2], kernel))


def test_single_reads_count_as_little_as_the_study_says() -> None:
    records = [CaseRecord(str(i), str(i), pirads_reads=(4,)) for i in range(4)]
    kernel = delta_kernel([1] * 4, [0.05] * 4)
    method = build_method("conditional", ConditionalParameters(single_read_confidence=0.05, uniformity_weight=0.0))
    assert torch.allclose(method.loss((Z1, Z2), records), conditional_alignment(Z1, Z2, kernel))
