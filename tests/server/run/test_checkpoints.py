"""Where a run stands: written and read back whole, or refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import CheckpointError
from prostafed.common.tensors import hash_tensors
from prostafed.server.exchange.admission import History
from prostafed.server.run.checkpoints import FILE, RunState, read_run_state, write_run_state

STANDING = RunState(
    stage=2,
    round=7,
    tensors={"encoder.w": np.arange(4, dtype=np.float32)},
    memory={"control.encoder.w": np.ones(4, np.float32), "rounds": np.array(7)},
    history=History({"network": (1.5, 2.5)}, {"north": (123, 2**62)}),
    rejected={"south": 2},
)


def test_a_standing_reads_back_as_it_was(tmp_path: Path) -> None:
    write_run_state(tmp_path, STANDING, "abc", ledger=5)
    read = read_run_state(tmp_path, "abc", ledger=6)
    assert (read.stage, read.round, read.history, read.rejected) == (2, 7, STANDING.history, {"south": 2})
    assert hash_tensors(read.tensors) == hash_tensors(STANDING.tensors)
    assert hash_tensors(read.memory) == hash_tensors(STANDING.memory)


def test_without_a_checkpoint_the_run_stands_before_its_first_round(tmp_path: Path) -> None:
    assert read_run_state(tmp_path, "abc") == RunState()


def test_what_does_not_belong_or_is_damaged_is_refused(tmp_path: Path) -> None:
    write_run_state(tmp_path, STANDING, "abc", ledger=5)
    with pytest.raises(CheckpointError, match="another study"):
        read_run_state(tmp_path, "other")
    with pytest.raises(CheckpointError, match="ledger has 4 lines, the checkpoint knows of 5"):
        read_run_state(tmp_path, "abc", ledger=4)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_run_state(tmp_path, "abc")


def test_the_hash_sees_names_shapes_dtypes_and_values() -> None:
    one = np.zeros(4, np.float32)
    variants = [{"a": one}, {"b": one}, {"a": one.reshape(2, 2)}, {"a": one.astype(np.int32)}, {"a": one + 1}, {}]
    assert len({hash_tensors(each) for each in variants}) == len(variants)
    assert hash_tensors({"a": one, "b": one + 1}) == hash_tensors({"b": one + 1, "a": one})
