import math

from prostafed.common.shell.progress import mean_loss, say_loss


def test_a_mean_loss_is_over_those_who_told() -> None:
    assert mean_loss([{"loss": 1.0}, {"withheld/loss": 10.0}, {"loss": 2.0, "steps": 3.0}]) == 1.5
    assert math.isnan(mean_loss([{"withheld/loss": 10.0}]))
    assert (say_loss(1.5), say_loss(math.nan)) == ("1.500", "withheld")
