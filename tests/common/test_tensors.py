"""Named tensors: groups, layout, loading."""

import numpy as np
import pytest
from torch import nn

from prostafed.common.errors import CheckpointError
from prostafed.common.tensors import check_layout, count_bytes, group_of, read_tensors, select_groups, write_tensors


def make_network() -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 1)})


def test_groups_are_selected_by_the_first_part_of_the_name() -> None:
    tensors = read_tensors(make_network())
    assert set(select_groups(tensors, ["encoder"])) == {"encoder.weight", "encoder.bias"}
    assert group_of("encoder.stages.0.weight") == "encoder"
    assert count_bytes(tensors) == (6 + 3 + 3 + 1) * 4


def test_one_group_is_loaded_and_the_others_stay() -> None:
    network, other = make_network(), make_network()
    before = read_tensors(network)
    write_tensors(network, select_groups(read_tensors(other), ["encoder"]))
    after = read_tensors(network)
    np.testing.assert_array_equal(after["encoder.weight"], read_tensors(other)["encoder.weight"])
    np.testing.assert_array_equal(after["head.weight"], before["head.weight"])


def test_what_was_read_does_not_change_with_the_network() -> None:
    network = make_network()
    tensors = read_tensors(network)
    nn.init.zeros_(network["encoder"].weight)  # type: ignore[arg-type]
    assert tensors["encoder.weight"].any()


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_a_group_that_does_not_fit_exactly_is_refused(change: str) -> None:
    expected = {"encoder.weight": np.zeros((3, 2), np.float32), "encoder.bias": np.zeros(3, np.float32)}
    found = dict(expected)
    match change:
        case "missing":
            del found["encoder.bias"]
        case "extra":
            found["encoder.other"] = np.zeros(1)
        case "shape":
            found["encoder.bias"] = np.zeros(4, np.float32)
        case "dtype":
            found["encoder.bias"] = np.zeros(3, np.float64)
    with pytest.raises(CheckpointError, match=r"encoder\.(bias|other)"):
        check_layout(expected, found)
    check_layout(expected, expected)
