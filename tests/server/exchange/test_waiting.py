"""Sites that are killed, restarted or cut off while a question to them is under way: they are asked again."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from flwr.app import Error, Message
from flwr.proto.node_pb2 import NodeInfo

from prostafed.common.exchange.kinds import NODE_LOST
from prostafed.common.exchange.messages import Refusal, Request
from prostafed.common.exchange.wire import pack_reply
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.server.exchange import exchange as exchange_module
from prostafed.server.exchange import waiting
from prostafed.server.exchange.exchange import Exchange, Terms, ask_sites, pause
from prostafed.server.exchange.roster import Roster
from tests.server.exchange.test_exchange import REQUEST, Answer, SilentGrid, good, make_grid
from tests.server.exchange.test_roster import echo

AGAIN = {"NODE_LOST": 0.02, "CRASHED": 0.02, "RESTING": 0.02, "NODE_UNAVAILABLE": 0.02}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "POLL_S", 0.01)
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    monkeypatch.setattr(waiting, "SOON_S", 0.02)


class LinkGrid(SilentGrid):
    """As Flower's SuperLink: a question to a node that is away is answered by an error, once, and is then no more.
    `at` says what happens at which pull.
    """

    away: frozenset[int] = frozenset()
    since = "9:00"
    pushes: tuple[int, ...] = ()
    at: Mapping[int, dict[str, object]] = MappingProxyType({})
    pulls = 0

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [
            NodeInfo(node_id=node, last_activated_at=self.since)
            for node in super().get_node_ids()
            if node not in self.away
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        kept = list(messages)
        self.pushes += tuple(message.metadata.dst_node_id for message in kept)
        return super().push_messages(kept)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.pulls += 1
        for name, value in self.at.get(self.pulls, {}).items():
            setattr(self, name, value)
        (message_id,) = message_ids
        asked = self._pushed.get(message_id)
        if asked and asked.metadata.dst_node_id in self.away:
            del self._pushed[message_id]
            return [Message(Error(NODE_LOST, "away"), reply_to=asked)]
        return super().pull_messages([message_id])


def ask(grid: LinkGrid, nodes: dict[str, int], terms: Terms) -> tuple[Exchange, list[str], dict[str, str]]:
    taken: list[str] = []
    exchange, left = ask_sites(grid, nodes, REQUEST, terms, lambda site, reply: taken.append(site))
    return exchange, sorted(taken), left


def test_a_site_that_was_lost_is_asked_again_once_it_is_back() -> None:
    grid, nodes = make_grid({"a": good("a"), "b": good("b")}, LinkGrid)
    grid.away = frozenset({nodes["b"]})
    grid.silent = frozenset(nodes.values())  # they work; b when it is back
    grid.at = {8: {"away": frozenset()}, 80: {"silent": frozenset()}}
    exchange, taken, left = ask(grid, nodes, Terms(20.0, again=AGAIN))
    assert (taken, exchange.replies, exchange.rejections) == (["a", "b"], ["a", "b"], [])
    assert sorted(grid.pushes) == sorted([nodes["a"], nodes["b"], nodes["b"]]), "not while it works on the second"
    assert exchange.bytes_down == 3 * 16
    assert left == {}


def test_a_site_that_stays_away_is_rejected_at_the_deadline_and_not_before() -> None:
    grid, nodes = make_grid({"a": good("a"), "b": good("b")}, LinkGrid)
    grid.away = frozenset({nodes["b"]})
    started = time.monotonic()
    exchange, taken, _ = ask(grid, nodes, Terms(0.3, again=AGAIN))
    assert time.monotonic() >= started + 0.3
    (rejection,) = exchange.rejections
    assert (taken, rejection["site"], rejection["code"]) == (["a"], "b", "NODE_LOST")
    assert rejection["text"].startswith("the connection to the site was lost; no answer came in 0.3 s")
    assert grid.pushes.count(nodes["b"]) == 1, "who is not connected is not asked"


def test_where_nobody_comes_back_a_lost_site_costs_no_time() -> None:
    grid, nodes = make_grid({"a": good("a"), "b": good("b")}, LinkGrid)
    grid.away = frozenset({nodes["b"]})
    started = time.monotonic()
    exchange, _, _ = ask(grid, nodes, Terms(60.0))
    assert time.monotonic() < started + 30
    assert [entry["code"] for entry in exchange.rejections] == ["NODE_LOST"]


def test_a_site_that_was_connected_anew_is_asked_again_whether_or_not_anybody_missed_it() -> None:
    """A link that was killed and started again at once: Flower never says that the question was lost."""
    grid, nodes = make_grid({"a": good("a")}, LinkGrid)
    lost = nodes["a"]
    grid.silent = frozenset({lost})
    grid.at = {5: {"since": "9:05"}, 12: {"silent": frozenset()}}
    exchange, taken, left = ask(grid, nodes, Terms(20.0, again=AGAIN))
    assert (taken, exchange.replies, exchange.rejections) == (["a"], ["a"], [])
    assert grid.pushes == (lost, lost)
    assert list(left.values()) == ["a"], "the other question is not waited for"


def test_an_answer_that_comes_twice_counts_once_and_is_not_late() -> None:
    grid, nodes = make_grid({"a": echo("a"), "b": echo("b")}, LinkGrid)
    roster = Roster(grid, "abc", 20.0)
    roster.assemble(2)
    grid.silent = frozenset(nodes.values())
    grid.at = {grid.pulls + 8: {"since": "9:05"}, grid.pulls + 40: {"silent": frozenset()}}
    taken: list[str] = []
    exchange = roster.ask(REQUEST, ["a", "b"], lambda site, reply: taken.append(site))
    assert sorted(grid.pushes) == sorted([*nodes.values()] * 3)  # hello, and two questions
    assert (sorted(taken), exchange.replies) == (["a", "b"], ["a", "b"])
    assert roster.ask(replace(REQUEST, round=3), ["a"], lambda site, reply: None).late == []
    assert grid._pushed == {}, "the second answers are taken from the link, or they would lie there"


def test_two_answers_that_have_come_at_once_are_one() -> None:
    class Both(LinkGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            (message_id,) = message_ids
            if len(self._pushed) == 4 and message_id == next(iter(self._pushed)):
                self.silent = frozenset({nodes["b"]})
            return super().pull_messages([message_id])

    grid, nodes = make_grid({"a": good("a"), "b": good("b")}, Both)
    grid.silent = frozenset(nodes.values())
    grid.at = {5: {"since": "9:05"}}
    exchange, taken, left = ask(grid, nodes, Terms(0.4, again=AGAIN))
    assert (taken, exchange.replies, exchange.bytes_up) == (["a"], ["a"], 16)
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [("b", "DEADLINE")]
    assert sorted(left.values()) == ["a", "b", "b"]


@pytest.mark.parametrize("code", ["RESTING", "CRASHED"])
def test_a_site_that_rests_or_whose_worker_died_is_asked_again(code: str) -> None:
    answers: list[Answer] = [lambda message, request: pack_reply(Refusal(code), message), good("a")]

    def answer(message: Message, request: Request) -> Message:
        return answers.pop(0)(message, request)

    grid, nodes = make_grid({"a": answer}, LinkGrid)
    exchange, taken, _ = ask(grid, nodes, Terms(20.0, again=AGAIN))
    assert (taken, exchange.rejections) == (["a"], [])


def test_who_watches_reads_once_that_people_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SELDOM_S", 0.02)
    held = [lambda message, request: pack_reply(Refusal("HELD"), message)] * 3
    answers: list[Answer] = [*held, good("a")]

    def answer(message: Message, request: Request) -> Message:
        return answers.pop(0)(message, request)

    grid, nodes = make_grid({"a": answer}, LinkGrid)
    said: list[Event] = []
    with listening(said.append):
        _, taken, _ = ask(grid, nodes, Terms(20.0, again={"HELD": 0.02}))
    assert taken == ["a"]
    assert said == [Said("a", "the answer waits in the site's outbox for a person there to let it leave")]


def test_it_is_not_asked_more_often_than_its_code_says() -> None:
    grid, nodes = make_grid({"a": lambda message, request: pack_reply(Refusal("RESTING"), message)}, LinkGrid)
    exchange, _, _ = ask(grid, nodes, Terms(0.4, again={"RESTING": 0.15}))
    assert 2 <= len(grid.pushes) <= 3
    assert [entry["code"] for entry in exchange.rejections] == ["RESTING"]
    assert waiting.AGAIN_S["RESTING"] == waiting.AGAIN_S["HELD"] == waiting.AGAIN_S["HALTED"] == 60.0
    assert "DECLINED" not in waiting.AGAIN_S, "that is final"
    assert waiting.AGAIN_S["NODE_LOST"] == waiting.AGAIN_S["SITE_CRASHED"] == waiting.AGAIN_S["CRASHED"] == 5.0


def test_other_refusals_are_final() -> None:
    grid, nodes = make_grid({"a": lambda message, request: pack_reply(Refusal("DATA"), message)}, LinkGrid)
    started = time.monotonic()
    exchange, _, _ = ask(grid, nodes, Terms(60.0, again=waiting.AGAIN_S))
    assert time.monotonic() < started + 30
    assert [entry["code"] for entry in exchange.rejections] == ["DATA"]


def test_a_question_that_the_link_does_not_take_is_a_rejection_of_its_own() -> None:
    class Revoking(LinkGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            taken = {message.metadata.dst_node_id: message for message in messages}
            (pushed,) = super().push_messages([taken[nodes["c"]]])
            return [pushed if node == nodes["c"] else "" for node in taken]

    grid, nodes = make_grid({name: good(name) for name in "abc"}, Revoking)
    exchange, taken, _ = ask(grid, nodes, Terms(5.0))
    assert taken == ["c"]
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [
        ("a", "NODE_UNAVAILABLE"),
        ("b", "NODE_UNAVAILABLE"),
    ]


@pytest.mark.parametrize("action", ["hello", "train", "evaluate"])
def test_nobody_answers_in_another_s_place(action: str) -> None:
    """The thief took north's question and answers it with north's name."""

    class Thieving(SilentGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for message in super().pull_messages(message_ids):
                message.metadata.__dict__["_src_node_id"] = nodes["thief"]
                yield message

    grid, nodes = make_grid({"north": good("north"), "thief": good("thief")}, Thieving)
    taken: list[str] = []
    request = Request(action, "" if action == "hello" else "run", "abc", 1, 2, returns=None)
    exchange, _ = ask_sites(grid, nodes, request, Terms(5.0), lambda site, reply: taken.append(site))
    assert taken == ["thief"]
    (rejection,) = exchange.rejections
    assert (rejection["site"], rejection["code"]) == ("north", "WRONG_NODE")
    assert str(nodes["thief"]) in rejection["text"]


def test_looks_for_answers_grow_rare_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pauses = pause(time.monotonic() + 1e6)
    for _ in range(20):
        next(pauses)
    assert (slept[0], slept[-1]) == (0.05, 0.5)
    assert slept == sorted(slept)
    assert 1.5 < sum(each for each in slept if each < 0.5) < 2.5
    next(pause(time.monotonic() - 1))
    assert slept[-1] == 0.0, "never past the deadline"
