"""SIGTERM: at once, or at the next step."""

import os
import signal
from collections.abc import Iterator

import pytest

from prostafed.common.shell.leaving import Interrupted, is_asked_to_leave, leave_on_sigterm, until_step


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    leave_on_sigterm()
    yield
    leave_on_sigterm()
    signal.signal(signal.SIGTERM, before)


def test_work_is_left_at_once() -> None:
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)
    assert is_asked_to_leave()


def test_inside_it_is_noted_and_the_work_asks() -> None:
    assert not is_asked_to_leave()
    with until_step():
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_asked_to_leave()
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_interruption_is_no_error_that_a_site_would_answer_with() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)
