"""What a site's machine makes of training."""

import pytest
import torch
from torch import nn

from prostafed.client.training.loop import Continuation
from prostafed.client.training.machine import Machine, choose_dtype, compile_groups, say_once
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.errors import ConfigurationError
from tests.client.training.learn import learn

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_computes_in_half_of_the_digits(
    native: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_dtype("auto", GPU) == expected
    assert choose_dtype("float32", GPU) == torch.float32
    assert choose_dtype("fp16", GPU) == torch.float16


def test_a_cpu_computes_in_float32_unless_told() -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    with pytest.raises(ConfigurationError, match="is for a GPU"):
        choose_dtype("fp16", CPU)


def test_forward_passes_are_in_the_precision_asked_for() -> None:
    seen: list[torch.dtype] = []
    network = nn.Linear(3, 1)

    def part_loss(part: slice) -> torch.Tensor:
        outputs = network(torch.ones(2, 3)[part])
        seen.append(outputs.dtype)
        return outputs.float().mean()

    for precision in ("float32", "bf16"):
        continuation = Continuation(Machine(precision=precision))  # type: ignore[arg-type]
        learn(
            network,
            lambda *_: part_loss,
            2,
            Optimisation(1, 2, 1e-2, 0.0, 1),
            continuation=continuation,
        )
    assert seen == [torch.float32, torch.bfloat16]
    assert network.weight.dtype == torch.float32


def test_every_group_is_compiled_and_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def remember(module: nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(nn.Module, "compile", remember)
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    for flag in (False, True):
        continuation = Continuation(Machine(compile=flag))
        settings = Optimisation(1, 2, 1e-2, 0.0, 1)
        learn(network, lambda *_: lambda part: network["head"].weight.sum(), 2, settings,
                 continuation=continuation)  # fmt: skip
        assert compiled == ([network["encoder"], network["head"]] if flag else [])


def test_compiling_renames_nothing() -> None:
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1)})
    names = list(network.state_dict())
    compile_groups(network)
    assert list(network.state_dict()) == names


def test_a_sentence_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    for _ in range(3):
        say_once("something of this stage")
    assert caplog.text.count("something of this stage") == 1
