"""An answer whose upload a site breaks off is never made of the parts that came, and they are dropped; a request that a
site refuses while it is still sent is forgotten when it has come.
"""

import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from flwr.supercore.constant import OBJECT_PUSH_SESSION_TTL_SECONDS

from prostafed.client.connect.fleet import Fleet, inflate, pack
from prostafed.common.errors import HaltedError
from prostafed.common.exchange.kinds import NODE_LOST
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.exchange.wire import pack_reply, pack_request
from prostafed.server.link.superlink import SuperLink, take_up_run
from tests.client.connect.coordinator import announce

from .knocking import running_link

TENSORS = {"encoder.w": np.arange(4_000_000, dtype=np.float32)}  # three parts and more


def test_of_half_an_update_nothing_is_used_and_nothing_is_kept(tmp_path: Path) -> None:
    with running_link(tmp_path, "north") as (link, address):
        fleet = Fleet(address, tmp_path / "coordinator" / "pki" / "ca.crt", tmp_path / "north.key")
        node = fleet.activate()
        ticket = link.superlink.begin_run({"study": "{}", "run": "run"})
        grid, _ = take_up_run(link.runs.socket, ticket.token, {})
        request = Request("train", "run", "ab", 1, 1, TENSORS)
        (asked,) = grid.push_messages(pack_request(request, [node], 60.0))
        incoming = fleet.pull()
        assert incoming is not None
        message = inflate(incoming, fleet.fetch(incoming, 1 << 30))
        reply = Reply("north", "ab", 1, 1, 5, {"encoder.w": TENSORS["encoder.w"] + 1})
        outgoing = pack(pack_reply(reply, message), incoming)
        sent = list[int]()

        def may_go() -> None:
            sent.append(1)
            if len(sent) > 3:
                raise HaltedError("It is halted.")

        with pytest.raises(HaltedError):
            fleet.push(outgoing, incoming, 1.0, may_go)
        store, parts = link.superlink._state.object_store, set(outgoing.contents)
        deadline = time.monotonic() + 10
        while sum(bool(store.get(name)) for name in parts) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)  # what was under way arrives still
        assert any(store.get(name) for name in parts), "a control: some of it came"
        assert not all(store.get(name) for name in parts)
        assert list(grid.pull_messages([asked])) == [], "it is waited for"

        for session in link.superlink._state._object_push_sessions.values():  # type: ignore[attr-defined]
            session.expires_at -= timedelta(seconds=OBJECT_PUSH_SESSION_TTL_SECONDS + 1)
        (told,) = grid.pull_messages([asked])
        assert told.has_error()
        assert told.error.code == NODE_LOST, "so the site is asked again"
        assert not any(store.get(name) for name in parts - set(incoming.objects)), "nothing of it is kept"
        assert grid._coming == {}  # type: ignore[attr-defined]

        (again,) = grid.push_messages(pack_request(request, [node], 60.0))
        incoming = fleet.pull()
        assert incoming is not None
        message = inflate(incoming, fleet.fetch(incoming, 1 << 30))
        fleet.push(pack(pack_reply(reply, message), incoming), incoming, 1.0)
        (whole,) = grid.pull_messages([again])
        assert not whole.has_error()
        fleet.close()


def test_a_request_that_is_refused_while_it_is_sent_is_forgotten_when_it_has_come() -> None:
    """Else the coordinator's run could not send the rest, and would end with that."""
    link = SuperLink()
    ticket, state = link.begin_run({"study": "{}", "run": "run"}), link._state
    announcement, contents = announce()
    tree, session = announcement.message_object_trees[0], state.start_session(ticket.run_id)
    (first, *rest) = state.preregister_object_tree(tree, session)
    assert state.store_object(ticket.run_id, session, first, contents[first])
    forgetting = threading.Thread(target=link.forget_message, args=(tree.object_id,))
    forgetting.start()
    forgetting.join(timeout=0.2)
    assert forgetting.is_alive()
    assert all(state.store_object(ticket.run_id, session, name, contents[name]) for name in rest)
    forgetting.join(timeout=10)
    assert not any(state.object_store.get(name) for name in contents)
