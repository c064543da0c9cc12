"""A real site, and a coordinator that does not keep to what was agreed: it gets codes, and nothing else."""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.fab import Fab

from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_request, unpack_reply
from prostafed.common.study import parse_study
from prostafed.server.link import superlink
from prostafed.server.link.link import Link, revoke_site
from prostafed.server.link.superlink import take_up_run
from tests.programs import call
from tests.server.link.knocking import running_link

from .conftest import TinyFederation
from .deployment import Deployment, wait_for


@pytest.fixture
def coordinator(
    tiny_federation: TinyFederation, tmp_path: Path
) -> Iterator[tuple[Link, Path, subprocess.Popen[bytes], Deployment]]:
    """A link in this process, and a site that has approved the tiny study."""
    (site_file, *_) = tiny_federation.write_sites(tmp_path / "sites")
    with running_link(tmp_path, "north") as (link, address):
        files = {"root_certificates": link.home / "pki" / "ca.crt", "key": tmp_path / "north.key"}
        server = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in files.items())
        site_file.write_text(f'{site_file.read_text()}[server]\naddress = "{address}"\n{server}')
        done = call("prostafed-site", "approve", tiny_federation.study_file, "--site", site_file, "--yes")
        assert done.code == 0, done.err
        deployment = Deployment(tmp_path)
        site = deployment.start("north", "prostafed-site", site_file)
        try:
            wait_for(lambda: "Connected" in deployment.said("north"), site, 60)
            yield link, site_file, site, deployment
        finally:
            deployment.end()


def ask(link: Link, study: str, request: Request) -> Reply | Refusal:
    """Return what the site answers to one request of a run with this study."""
    ticket = link.superlink.begin_run({"study": study, "run": "run"})
    grid, _ = take_up_run(link.runs.socket, ticket.token, {})
    (node,) = link.superlink.list_nodes()
    (message_id,) = grid.push_messages(pack_request(request, [node.node_id], 60.0))
    answer = wait_for_answer(grid, message_id)
    link.superlink.end_run(ticket, finished=True)
    return unpack_reply(answer, request)


def wait_for_answer(grid: Grid, message_id: str) -> Message:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in grid.pull_messages([message_id]):
            return message
        time.sleep(0.1)
    raise AssertionError("no answer")


def read_audit(site_file: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (site_file.parent / "audit.jsonl").read_text().splitlines()]
    return [(line["event"], line.get("code", "")) for line in lines]


def test_it_gets_what_was_approved_and_nothing_else(
    tiny_federation: TinyFederation,
    coordinator: tuple[Link, Path, subprocess.Popen[bytes], Deployment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, site_file, site, deployment = coordinator
    study = tiny_federation.study.canonical()
    hello = Request("hello", study_hash=tiny_federation.study.hash())
    answer = ask(link, study, hello)
    assert isinstance(answer, Reply)
    assert (answer.site, answer.study_hash, answer.tensors) == ("north", hello.study_hash, {})

    changed = study.replace('"seed":3', '"seed":4')
    assert sum(one != other for one, other in zip(study, changed, strict=True)) == 1
    other = parse_study(changed).hash()
    assert ask(link, changed, Request("hello", study_hash=other)) == Refusal("NOT_APPROVED")
    # the hash of what was approved does not open the door to another study
    assert ask(link, changed, hello) == Refusal("NOT_APPROVED")
    assert ask(link, changed, Request("train", "run", hello.study_hash, 1, 1)) == Refusal("NOT_APPROVED")
    waiting = call("prostafed-site", "requests", "--site", site_file, "--json").json
    assert [each["study"] for each in waiting["waiting"]] == [other]

    with monkeypatch.context() as patch:  # a bundle of its own, which would bring code
        code = b"import os"
        link.superlink._state.store_fab(Fab(hashlib.sha256(code).hexdigest(), code, {}))
        patch.setattr(superlink, "bundle_hash", lambda: hashlib.sha256(code).hexdigest())
        assert ask(link, study, hello) == Refusal("WRONG_RELEASE")

    audit = read_audit(site_file)
    assert audit[:3] == [("approved", ""), ("received", ""), ("answered", "")]
    assert ("request", "") in audit
    assert ("refused", "WRONG_RELEASE") in audit

    revoke_site(link.home, "north")
    assert site.wait(timeout=60) == 1
    assert "revoked this site" in deployment.said("north")
