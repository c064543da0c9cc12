"""What `ask_sites` takes for granted of Flower, tried on Flower's own state of messages and nodes: a link that is
killed, restarted, cut off or revoked while a question to it is under way.
"""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.server.superlink.linkstate.linkstate_factory import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.exchange.wire import pack_reply, unpack_request
from prostafed.server.exchange import exchange as exchange_module
from prostafed.server.exchange import waiting
from prostafed.server.exchange.exchange import Exchange, Terms, ask_sites

REQUEST = Request("train", "run", "abc", 1, 1, {}, returns=None)


class Link:
    """Flower's state with one run and one connected site, south, which answers when it is told to."""

    def __init__(self, database: str) -> None:
        factory = LinkStateFactory(database, NoOpFederationManager(), ObjectStoreFactory(database))
        self.state = factory.state()
        run = self.state.create_run(None, None, "hash", {}, NOOP_FEDERATION_ID, None, "us", "flwr-serverapp")
        self.node = self.state.create_node("us", "us", b"key", 30.0, name="south")
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run, 1
        self.grid = InMemoryGrid(factory)
        self.grid._run = Run.create_empty(run)
        self.connect()

    def connect(self) -> None:
        assert self.state.activate_node(self.node, 30.0)

    def cut(self) -> None:
        assert self.state.deactivate_node(self.node)

    def take(self) -> Message:
        """Return the question to the site, once there is one."""
        while not (found := self.state.get_message_ins(self.node, 1)):
            threading.Event().wait(0.01)
        return found[0]

    def answer(self, message: Message) -> bool:
        reply = pack_reply(Reply("south", "abc", 1, 1, 5), message)
        reply.metadata.__dict__.update(_message_id=str(uuid.uuid4()), _src_node_id=self.node)
        return self.state.store_message_res(reply) is not None

    def ask(self, site: Callable[[], None], deadline_s: float = 20.0) -> tuple[Exchange, dict[str, str]]:
        """Ask south, while `site` does what it does there."""
        thread = threading.Thread(target=site, daemon=True)
        thread.start()
        terms = Terms(deadline_s, again=dict.fromkeys(waiting.AGAIN_S, 0.02))
        asked = ask_sites(self.grid, {"south": self.node}, REQUEST, terms, lambda site, reply: None)
        thread.join(20)
        return asked


@pytest.fixture(params=["memory", "file"])
def link(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Link:
    monkeypatch.setattr(exchange_module, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "LOOK_S", 0.02)
    monkeypatch.setattr(waiting, "SOON_S", 0.02)
    return Link(FLWR_IN_MEMORY_DB_NAME if request.param == "memory" else str(tmp_path / "state.db"))


def test_a_link_that_was_killed_is_asked_again_and_its_first_question_is_no_more(link: Link) -> None:
    answered: list[bool] = []

    def site() -> None:
        first = link.take()
        link.cut()
        threading.Event().wait(0.2)  # the coordinator sees that it is away
        link.connect()
        second = link.take()
        assert unpack_request(second).round == unpack_request(first).round
        answered.extend([link.answer(first), link.answer(second)])

    exchange, left = link.ask(site)
    assert (exchange.replies, exchange.rejections, answered) == (["south"], [], [False, True])
    assert left == {}


def test_a_link_that_was_restarted_before_anybody_missed_it_is_asked_again(link: Link) -> None:
    def site() -> None:
        link.take()
        link.cut()
        link.connect()
        link.answer(link.take())

    exchange, _ = link.ask(site)
    assert (exchange.replies, exchange.rejections) == (["south"], [])


def test_a_link_whose_worker_went_on_meanwhile_may_answer_both(link: Link) -> None:
    def site() -> None:
        first = link.take()
        link.cut()
        link.connect()
        second = link.take()
        link.answer(second)
        link.answer(first)

    exchange, _ = link.ask(site)
    assert (exchange.replies, exchange.rejections) == (["south"], [])


def test_a_revoked_site_is_not_waited_for_longer_than_the_round(link: Link) -> None:
    def site() -> None:
        message = link.take()
        link.state.delete_node("us", link.node)
        link.answer(message)

    exchange, _ = link.ask(site, 0.4)
    assert exchange.replies == []
    assert [entry["code"] for entry in exchange.rejections] == ["NODE_LOST"]
    exchange, left = link.ask(lambda: None, 0.2)
    assert [entry["code"] for entry in exchange.rejections] == ["NODE_UNAVAILABLE"]
    assert left == {}
