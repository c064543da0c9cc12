"""A site answers as fast as it is asked, for a while."""

import pytest

from prostafed.client.connect import pace
from prostafed.client.connect.pace import Pace


def test_who_asks_without_end_is_answered_one_question_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.time, "sleep", sleep)
    kept = Pace()
    for _ in range(int(pace.AT_ONCE)):
        kept.keep()
    assert slept == []
    for _ in range(100):
        kept.keep()
    assert now[0] == pytest.approx(100 * pace.EVERY_S)
    now[0] += 3600.0  # rested
    slept.clear()
    for _ in range(int(pace.AT_ONCE)):
        kept.keep()
    assert slept == []
