"""A run is followed by the files of its folder."""

import json
from pathlib import Path

import pytest

from prostafed.common.errors import RoundError
from prostafed.server.link.following import follow, read_rounds
from prostafed.server.records.lines import RoundLine


def write_run(out: Path, state: dict[str, str], rounds: int = 2) -> None:
    out.mkdir(exist_ok=True)
    (out / "rounds.jsonl").write_text(
        "".join(f'{{"stage": 1, "round": {number}}}\n' for number in range(1, rounds + 1))
    )
    if state:
        (out / "state.json").write_text(json.dumps(state))


def test_each_round_is_reported_once_and_what_was_seen_is_not(tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_run(out, {}, rounds=2)
    seen, reported = read_rounds(out), []

    def on_round(record: RoundLine) -> None:
        reported.append(record.round)
        write_run(out, {"state": "finished"} if record.round == 4 else {}, rounds=min(record.round + 1, 4))

    write_run(out, {}, rounds=3)
    follow(out, lambda: "", on_round=on_round, seen=seen)
    assert reported == [3, 4]


def test_a_failed_run_raises_its_own_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"state": "failed", "error": "Of 2 sites 1 is ready."})
    with pytest.raises(RoundError, match=r"^Of 2 sites 1 is ready\.$"):
        follow(tmp_path / "run", lambda: "")


def test_a_run_that_ended_without_a_word_is_explained_by_who_knows(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {})
    with pytest.raises(RoundError, match="before it was finished: no heartbeat"):
        follow(tmp_path / "run", lambda: "no heartbeat", ask_every_s=0.0)
