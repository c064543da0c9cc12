"""Who follows a run reads what it waits for."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.server.link import submission
from prostafed.server.link.following import follow
from prostafed.server.records.lines import WaitingLine
from prostafed.server.records.write import write_waiting

RUN = "tiny-0123456789ab"
WAITS = {"south": WaitingLine(code="NOT_APPROVED", since="2026-01-01T00:00:00+00:00")}
ROUND = '{"stage": 1, "round": 1}\n'


def follow_until_told(home: Path, monkeypatch: pytest.MonkeyPatch, *looks: tuple[list[str] | None, str]) -> list[Said]:
    """Follow a run of two sites. A look: who is connected (None: no link), what rounds.jsonl holds."""
    out = home / "runs" / RUN
    out.mkdir(parents=True)
    (out / "submission.json").write_text(json.dumps({"study": "", "run": RUN, "sites_expected": 2, "initial": ""}))
    write_waiting(out, WAITS)
    coming = iter(looks)

    def ask_link(home: Path, command: str) -> Mapping[str, Any]:
        look = next(coming, None)
        if look is None:
            (out / "state.json").write_text('{"state": "finished"}')
            return {"sites": [], "runs": []}
        online, rounds = look
        (out / "rounds.jsonl").write_text(rounds)
        if online is None:
            raise ConfigurationError("No link runs.")
        return {
            "sites": [{"name": name, "online": name in online} for name in ("north", "south", "west")],
            "runs": [RUN],
        }

    monkeypatch.setattr(submission, "ask_link", ask_link)
    monkeypatch.setattr(submission, "follow", partial(follow, ask_every_s=0.0))
    told: list[Event] = []
    with listening(told.append):
        submission.follow_run(home, RUN)
    return [each for each in told if isinstance(each, Said)]


def test_who_is_waited_for_is_told_once_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = follow_until_told(tmp_path, monkeypatch, (["north", "south"], ""), (["north", "south"], ""))
    assert told.site == RUN
    assert told.text.startswith("not ready: south (waiting for approval), west (not connected). prostafed-server")


def test_enough_sites_or_a_round_are_nothing_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert follow_until_told(tmp_path, monkeypatch, (["north", "west"], ""), (["north"], ROUND)) == []


def test_a_link_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = follow_until_told(tmp_path, monkeypatch, (None, ROUND), (None, ROUND), (["north"], ROUND))
    assert told.text.startswith("it does not answer. The run goes on")


@pytest.mark.parametrize(
    ("expected", "said"), [(1, "begins once 1 site is ready."), (3, "begins once 3 sites are ready.")]
)
def test_a_run_is_named_and_says_for_how_many_it_waits(
    expected: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "submit_run", lambda *_: None)
    monkeypatch.setattr(submission, "follow_run", lambda *_: None)
    told: list[Event] = []
    with listening(told.append):
        submission.run_study(tmp_path, submission.Submission("", RUN, expected))
    assert [(each.site, each.text.partition(" Ctrl-C")[0]) for each in told if isinstance(each, Said)] == [(RUN, said)]
