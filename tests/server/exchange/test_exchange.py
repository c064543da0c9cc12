"""One exchange: who answers, who does not, and what is admitted; the grid is scripted, the wire is real."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from prostafed.common.errors import RoundError
from prostafed.common.exchange.compression import list_slots
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_reply, unpack_request
from prostafed.server.exchange import exchange as rounds
from prostafed.server.exchange.exchange import Roster, ask_sites
from prostafed.simulations.run.engine.grid import LocalGrid

WEIGHT = {"encoder.weight": np.zeros((2, 2), np.float32)}
REQUEST = Request("train", "run", "abc", 1, 2, WEIGHT, returns=list_slots(WEIGHT, "none", 1.0))
GOOD = Reply("", "abc", 1, 2, 5, {"encoder.weight": np.ones((2, 2), np.float32)})
NONSENSE = RecordDict(
    {
        "answer": ConfigRecord({"site": "bad", "study_hash": "abc", "stage": "one", "round": 2, "cases": 5}),
        "tensors": ArrayRecord(),
        "metrics": MetricRecord({}),
    }
)
Answer = Callable[[Message, Request], Message]


class SilentGrid(LocalGrid):
    """A grid on which some nodes never answer."""

    silent: frozenset[int] = frozenset()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        waiting = [
            i for i in message_ids if i in self._pushed and self._pushed[i].metadata.dst_node_id not in self.silent
        ]
        return super().pull_messages(waiting)


GridT = TypeVar("GridT", bound=SilentGrid)


def make_grid(answers: dict[str, Answer], kind: type[GridT] = SilentGrid) -> tuple[GridT, dict[str, int]]:
    app = ClientApp()

    @app.query("hello")
    @app.train("round")
    def answer(message: Message, context: Context) -> Message:
        return answers[str(context.node_config["site"])](message, unpack_request(message))

    grid = kind(app, [{"site": site} for site in answers], {})
    return grid, dict(zip(answers, grid.get_node_ids(), strict=True))


def replying(reply: Reply | Refusal) -> Answer:
    return lambda message, request: pack_reply(reply, message)


def good(site: str) -> Answer:
    return replying(replace(GOOD, site=site))


def run(
    answers: dict[str, Answer], deadline_s: float = 5.0, silent: tuple[str, ...] = ()
) -> tuple[rounds.Exchange, list[str]]:
    grid, nodes = make_grid(answers)
    grid.silent = frozenset(nodes[site] for site in silent)
    taken: list[str] = []
    exchange, _ = ask_sites(grid, nodes, REQUEST, deadline_s, lambda site, reply: taken.append(site))
    return exchange, taken


def crash(message: Message, request: Request) -> Message:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (replying(Refusal("DATA")), "DATA"),
        (replying(Refusal("FileNotFoundError: /data/Smith^John")), "UNKNOWN_REFUSAL"),
        (lambda message, request: Message(Error(7**7, "bad"), reply_to=message), "FLOWER_ERROR"),
        (crash, "SITE_CRASHED"),
        (lambda message, request: Message(Error(5, "lost"), reply_to=message), "NODE_LOST"),
        (lambda message, request: Message(RecordDict(), reply_to=message), "MALFORMED"),
        (lambda message, request: Message(NONSENSE, reply_to=message), "MALFORMED"),
        (good("impostor"), "WRONG_NAME"),
        (replying(replace(GOOD, site="bad", study_hash="other")), "WRONG_STUDY"),
        (replying(replace(GOOD, site="bad", round=1)), "WRONG_ROUND"),
        (replying(replace(GOOD, site="bad", cases=0)), "NO_CASES"),
    ],
)
def test_one_bad_site_is_left_out_with_a_code_and_the_others_count(answer: Answer, code: str) -> None:
    exchange, taken = run({"a": good("a"), "bad": answer, "c": good("c")})
    assert taken == ["a", "c"]
    assert exchange.replies == ["a", "c"]
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [("bad", code)]
    assert (exchange.bytes_down, exchange.bytes_up) == (3 * 16, 2 * 16)


def test_a_silent_site_is_left_out_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    exchange, taken = run({"a": good("a"), "b": good("b")}, deadline_s=0.2, silent=("b",))
    assert taken == ["a"]
    late = "no answer in 0.2 s, the deadline_s of the study's [round]; raise it for a slow site"
    assert exchange.rejections == [{"site": "b", "code": "DEADLINE", "text": late}]


def test_a_round_is_closed_when_enough_have_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    grid, nodes = make_grid({name: good(name) for name in "abc"})
    taken: list[str] = []
    exchange, left = ask_sites(grid, nodes, REQUEST, 5.0, lambda site, reply: taken.append(site), close_after=2)
    assert taken == exchange.replies == ["a", "b"]
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [("c", "NOT_NEEDED")]
    assert list(left.values()) == ["c"]


def test_an_answer_to_an_earlier_round_is_put_aside_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    grid, nodes = make_grid({name: echo(name) for name in "ab"})
    roster = Roster(grid, "abc", 0.1)
    roster.assemble(2)
    grid.silent = frozenset({nodes["b"]})
    taken: list[tuple[str, int]] = []
    take = lambda site, reply: taken.append((site, reply.round))  # noqa: E731
    first = roster.ask(REQUEST, ["a", "b"], take)
    assert [(entry["site"], entry["code"]) for entry in first.rejections] == [("b", "DEADLINE")]
    assert first.late == []
    grid.silent = frozenset()
    second = roster.ask(replace(REQUEST, round=3), ["a", "b"], take)
    assert second.late == [{"site": "b", "stage": "1", "round": "2", "action": "train"}]
    assert taken == [("a", 2), ("a", 3), ("b", 3)]
    assert roster.ask(replace(REQUEST, round=4), ["a", "b"], take).late == []


def echo(site: str) -> Answer:
    def answer(message: Message, request: Request) -> Message:
        tensors = GOOD.tensors if request.action == "train" else {}
        return pack_reply(replace(GOOD, site=site, stage=request.stage, round=request.round, tensors=tensors), message)

    return answer


class ChangingGrid(SilentGrid):
    """A grid some of whose nodes are away."""

    away: frozenset[int] = frozenset()

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in super().get_node_ids() if node not in self.away]


def test_a_site_that_goes_and_comes_back_is_known_again() -> None:
    grid, nodes = make_grid({name: echo(name) for name in ("north", "south")}, ChangingGrid)
    grid.away = frozenset({nodes["south"]})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    assert roster.present() == ["north"]
    grid.away = frozenset()
    assert roster.present() == ["north", "south"]
    grid.away = frozenset({nodes["north"]})
    assert roster.present() == ["south"]
    exchange = roster.ask(REQUEST, ["north", "south"], lambda site, reply: None)
    assert exchange.replies == ["south"]
    grid.away = frozenset()
    assert roster.present() == ["north", "south"]


class EnrolledGrid(ChangingGrid):
    """A grid whose nodes' keys are enrolled under names."""

    enrolled: tuple[str, ...] = ()

    def get_nodes(self) -> Iterable[NodeInfo]:
        names = dict(zip(sorted(self._contexts), self.enrolled, strict=True))
        return [NodeInfo(node_id=node, name=names[node]) for node in self.get_node_ids()]


def test_a_name_nobody_enrolled_is_that_of_the_node_that_said_it_first() -> None:
    grid, nodes = make_grid({"first": echo("north"), "second": echo("north")}, ChangingGrid)
    grid.away = frozenset({nodes["second"]})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    grid.away = frozenset()
    assert roster.present() == ["north"]
    grid.away = frozenset({nodes["first"]})  # absent is not gone: nobody may stand in for it
    assert roster.present() == []
    assert roster.refused == {
        f"node {nodes['second']}": "SAME_NAME (another node is north; each site needs a name of its own)"
    }
    grid.away = frozenset()
    assert roster.ask(REQUEST, ["north"], lambda site, reply: None).replies == []
    assert roster.present() == ["north"]
    assert roster.ask(REQUEST, ["north"], lambda site, reply: None).replies == ["north"]


@pytest.mark.parametrize("away", [frozenset[str](), frozenset({"north"})])
def test_an_enrolled_site_cannot_be_another_whether_that_is_there_or_not(away: frozenset[str]) -> None:
    grid, nodes = make_grid({"thief": echo("north"), "south": echo("south"), "north": echo("north")}, EnrolledGrid)
    grid.enrolled = ("thief", "south", "north")
    grid.away = frozenset(nodes[site] for site in away)
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    here = sorted({"north", "south"} - away)
    assert roster.present() == here
    said = "WRONG_NAME (its key is enrolled as thief, its site file says north; mend the one or the other)"
    assert roster.refused == {"thief": said}
    grid.away = frozenset()
    assert roster.present() == ["north", "south"], "nobody was locked out"
    taken: list[str] = []
    roster.ask(REQUEST, ["north", "south"], lambda site, reply: taken.append(site))
    assert sorted(taken) == ["north", "south"]


def test_a_hospital_enrolled_with_a_new_key_takes_its_place_once_the_old_one_is_gone() -> None:
    grid, nodes = make_grid({"old": echo("north"), "new": echo("north")}, EnrolledGrid)
    grid.enrolled = ("north", "north")
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(1)
    assert roster.present() == ["north"]
    assert [why[:9] for why in roster.refused.values()] == ["SAME_NAME"]
    grid.away = frozenset({nodes["old"]})
    assert roster.present() == ["north"]
    assert roster.refused == {}


def test_sites_are_found_by_their_own_names() -> None:
    grid, _ = make_grid({name: replying(Reply(name, "abc")) for name in ("south", "north")})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.present() == ["north", "south"]


def test_what_a_site_tells_of_its_patients_is_kept() -> None:
    told = {"cohort/csPCa/yes": 30.0}
    grid, _ = make_grid({"north": replying(Reply("north", "abc", metrics=told)), "south": replying(Reply("south"))})
    roster = Roster(grid, "abc", 5.0)
    roster.assemble(2)
    assert roster.cohorts == {"north": {"csPCa/yes": 30.0}}


def test_one_that_refuses_does_not_keep_the_others_from_starting() -> None:
    grid, nodes = make_grid({"a": replying(Refusal("DATA")), "b": echo("b"), "c": echo("c")})
    roster = Roster(grid, "abc", 60.0)
    roster.assemble(2)
    assert roster.present() == ["b", "c"]
    assert list(roster.refused) == [f"node {nodes['a']}"]
    assert roster.refused[f"node {nodes['a']}"].startswith("DATA (the site has no cases")


def test_one_that_refused_is_asked_again_until_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    monkeypatch.setattr(rounds, "ASK_AGAIN_S", 0.05)
    answers = iter([Refusal("DATA"), Refusal("DATA"), Reply("b")])
    grid, _ = make_grid({"a": echo("a"), "b": lambda message, request: pack_reply(next(answers), message)})
    roster = Roster(grid, "abc", 30.0)
    roster.assemble(2)
    assert roster.present() == ["a", "b"]
    assert roster.refused == {}


def test_one_that_refuses_is_not_asked_again_in_every_round() -> None:
    asked: list[str] = []

    def refuse(message: Message, request: Request) -> Message:
        asked.append(request.action)
        return pack_reply(Refusal("DATA"), message)

    grid, nodes = make_grid({"a": echo("a"), "b": refuse, "c": echo("c")}, ChangingGrid)
    roster = Roster(grid, "abc", 5.0)
    for _ in range(3):
        assert roster.present() == ["a", "c"]
    assert (len(asked), list(roster.refused)) == (1, [f"node {nodes['b']}"])
    grid.away = frozenset({nodes["c"]})  # somebody goes: who is there is asked anew
    assert roster.present() == ["a"]
    assert len(asked) == 2


def test_where_nothing_can_change_nobody_waits_for_the_deadline() -> None:
    grid, _ = make_grid({"a": echo("a"), "b": replying(Refusal("DATA"))})
    with pytest.raises(RoundError, match=r"Of 2 sites 1 are ready \(a\)\. node \d+: DATA"):
        Roster(grid, "abc", 1e9).assemble(2, patient=False)


@pytest.mark.parametrize(
    ("answers", "expected", "message"),
    [
        ({"a": replying(Reply("same")), "b": replying(Reply("same"))}, 2, r"1 are ready \(same\).*SAME_NAME"),
        ({"a": replying(Reply("a")), "b": replying(Refusal("DATA"))}, 2, "1 are ready.*DATA"),
        ({"a": replying(Reply("a"))}, 2, "1 of 2 sites were there.*deadline_s"),
    ],
)
def test_a_federation_that_is_not_complete_at_the_deadline_is_said(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Answer], expected: int, message: str
) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    grid, _ = make_grid(answers)
    with pytest.raises(RoundError, match=message):
        Roster(grid, "abc", 0.1).assemble(expected)
