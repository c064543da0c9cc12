"""A setting's range is said once: what checks it is what the documentation prints."""

from dataclasses import dataclass, fields

import pytest

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.settings import Settings, describe_range, setting
from prostafed.common.ssl import METHODS
from prostafed.simulations.phantom.settings import Readers, Scanner

EVERY = {
    *(entry.parameters for entry in METHODS.values()),
    *(entry.parameters for entry in AGGREGATORS.values()),
    *(Readers, Scanner),
}


@dataclass(frozen=True)
class Some(Settings):
    share: float = setting(0.5, "a share", at_least=0, below=1)
    weight: float | None = setting(None, "a weight", above=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"share": 1.0}, "share must be at least 0 and below 1, found 1.0."),
        ({"share": -0.1}, "share must be at least 0 and below 1, found -0.1."),
        ({"share": float("nan")}, "share must be at least 0 and below 1, found nan."),
        ({"weight": 0}, "weight must be above 0, found 0."),
    ],
)
def test_a_value_out_of_range_is_one_sentence(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        Some(**values)


def test_what_lies_at_an_included_bound_is_taken() -> None:
    assert Some(share=0.0, weight=1e-9) == Some(0.0, 1e-9)


@pytest.mark.parametrize("parameters", sorted(EVERY, key=lambda each: each.__name__), ids=lambda each: each.__name__)
def test_every_bound_of_every_table_refuses(parameters: type[Settings]) -> None:
    for each in fields(parameters):
        for name, bound in each.metadata["bounds"].items():
            beyond = {"above": bound, "at_least": bound - 1, "below": bound, "at_most": bound + 1}[name]
            with pytest.raises(ValueError, match=f"{each.name} must be {describe_range(each.metadata['bounds'])}"):
                parameters(**{each.name: beyond})


def test_no_table_stands_on_more_than_two_others() -> None:
    for parameters in EVERY:
        assert len(parameters.__mro__) <= 5, parameters  # itself, two others, Settings, object
