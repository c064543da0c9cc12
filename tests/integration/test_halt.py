"""A hospital is halted in the middle of a round, with its real programs: it stops, says one word, and goes on later."""

import json
import time
from pathlib import Path

import pytest
from flwr.serverapp import Grid

from prostafed.client.connect.status import read_status
from prostafed.client.gate.approval_file import Approval, keep_approval
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_request, unpack_reply
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import read_tensors, select_groups
from prostafed.server.link.superlink import take_up_run
from tests.programs import call
from tests.server.link.knocking import running_link

from .conftest import TinyFederation
from .deployment import Deployment, wait_for
from .test_hostile_coordinator import wait_for_answer

pytestmark = pytest.mark.slow


def ask(grid: Grid, node_id: int, request: Request) -> str:
    (asked,) = grid.push_messages(pack_request(request, [node_id], 60.0))
    return asked


def count_refused(folder: Path) -> int:
    """Return how often the site has refused, and its coordinator's link has forgotten the request since."""
    status = read_status(folder)
    return status.refused if status else 0


def test_a_site_that_is_halted_in_a_round_goes_on_from_where_it_was(
    tiny_federation: TinyFederation, tmp_path: Path
) -> None:
    stage = tiny_federation.study.stage[1].model_copy(update={"epochs": 60})
    study = tiny_federation.study.model_copy(update={"stage": (tiny_federation.study.stage[0], stage)})
    (site_file, *_) = tiny_federation.write_sites(tmp_path / "sites")
    folder, deployment = site_file.parent, Deployment(tmp_path)
    with running_link(tmp_path, "north") as (link, address):
        files = {"root_certificates": link.home / "pki" / "ca.crt", "key": tmp_path / "north.key"}
        server = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in files.items())
        site_file.write_text(
            f'checkpoint_minutes = 0.001\n{site_file.read_text()}[server]\naddress = "{address}"\n{server}'
        )
        about = {"study_hash": study.hash(), "study": study.canonical(), "name": study.name, "rounds": 5}
        approval = Approval(**about, approved_at="2026-01-01T00:00:00", until="2999-01-01", by="jane", statement="")
        keep_approval(site_file, approval, "approved")
        site = deployment.start("north", "prostafed-site", site_file)
        try:
            wait_for(lambda: "Connected" in deployment.said("north"), site, 60)
            ticket = link.superlink.begin_run({"study": study.canonical(), "run": "run"})
            grid, _ = take_up_run(link.runs.socket, ticket.token, {})
            (node,) = link.superlink.list_nodes()
            sent = select_groups(read_tensors(build_stage_network(study, 2)), ["encoder"])
            request = Request("train", "run", study.hash(), 2, 1, sent, returns=None)

            asked, kept = ask(grid, node.node_id, request), folder / "memory" / "run" / "stage-2"
            wait_for(lambda: any(kept.glob("partial-*")), site, 60)
            began = time.monotonic()
            assert call("prostafed-site", "halt", "--site", site_file, "--reason", "A theft.").code == 0
            assert unpack_reply(wait_for_answer(grid, asked), request) == Refusal("HALTED")
            wait_for(lambda: count_refused(folder) == 1, site, 30)
            assert time.monotonic() - began < 30
            assert any(kept.glob("partial-*"))
            assert not any(kept.glob("answer-*"))
            assert not (folder / "outbox.jsonl").exists()
            status = call("prostafed-site", "status", site_file)
            assert status.code == 1
            assert "A theft. Nothing leaves this site." in status.out
            assert unpack_reply(wait_for_answer(grid, ask(grid, node.node_id, request)), request) == Refusal("HALTED")
            wait_for(lambda: count_refused(folder) == 2, site, 30)

            assert call("prostafed-site", "go-on", "--site", site_file, "--yes").code == 0
            answer = unpack_reply(wait_for_answer(grid, ask(grid, node.node_id, request)), request)
            assert isinstance(answer, Reply)
            said = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
            events = [line["event"] for line in said]
            assert events[1:4] == ["received", "halted", "refused"]
            assert events[-2:] == ["received", "answered"]
            assert call("prostafed-site", "audit", "verify", "--site", site_file).code == 0
            (left,) = call("prostafed-site", "outbox", "--site", site_file, "--json").json["answers"]
            assert (left["state"], left["round"]) == ("left", 1)
        finally:
            deployment.end()
