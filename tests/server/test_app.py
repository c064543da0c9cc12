"""The ServerApp: what lies in the run folder while it waits for sites, and when it ends."""

from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Refusal
from prostafed.common.exchange.wire import pack_reply
from prostafed.common.study import parse_study
from prostafed.server.app import main
from prostafed.server.exchange import exchange, roster
from prostafed.server.records.lines import WaitingLine
from prostafed.server.records.read import read_run_record, read_state, read_waiting
from prostafed.simulations.run.engine.grid import LocalGrid

STUDY = parse_study('{"name": "tiny", "round": {"deadline_s": 0.05}, "stage": [{"kind": "pretrain", "rounds": 1}]}')


def test_who_waits_for_approval_is_in_the_run_folder_until_the_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "POLL_S", 0.01)
    monkeypatch.setattr(roster, "ASK_AGAIN_S", 0.05)
    seen: list[dict[str, WaitingLine]] = []
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        seen.append(read_waiting(tmp_path))
        return pack_reply(Refusal("DATA" if len(seen) > 2 else "NOT_APPROVED"), message)

    grid = LocalGrid(app, [{}], {})
    config = {"study": STUDY.canonical(), "run": "run", "out": str(tmp_path), "sites_expected": "1"}
    with pytest.raises(RoundError, match="Of 1 sites 0 are ready"):
        main(grid, Context(1, 1, {}, RecordDict(), {**config}))
    (node,) = grid.get_node_ids()
    assert seen[0] == {}
    assert [list(each) for each in seen[1:3]] == [[f"node {node}"]] * 2
    assert {line.code for each in seen[1:3] for line in each.values()} == {"NOT_APPROVED"}
    assert not (tmp_path / "waiting.json").exists()
    assert read_waiting(tmp_path) == {}
    assert read_state(tmp_path).state == "failed"
    assert read_run_record(tmp_path).sites_expected == 1
