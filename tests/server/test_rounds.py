"""One exchange: who answers, who does not, and what is admitted; the grid is scripted, the wire is real."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from prostafed.common.errors import RoundError
from prostafed.common.messages import Refusal, Reply, Request
from prostafed.common.wire import pack_reply, unpack_request
from prostafed.server import rounds
from prostafed.server.rounds import Roll, ask_sites
from prostafed.simulations.engine.grid import LocalGrid

WEIGHT = {"encoder.weight": np.zeros((2, 2), np.float32)}
REQUEST = Request("train", "run", "abc", 1, 2, WEIGHT)
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
        (replying(Refusal("DataError")), "DataError"),
        (crash, "SITE_CRASHED"),
        (lambda message, request: Message(Error(5, "lost"), reply_to=message), "NODE_LOST"),
        (lambda message, request: Message(RecordDict(), reply_to=message), "MALFORMED"),
        (lambda message, request: Message(NONSENSE, reply_to=message), "MALFORMED"),
        (good("impostor"), "WRONG_STUDY"),
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
    assert exchange.rejections == [{"site": "b", "code": "DEADLINE", "text": "no answer in 0 s"}]


def test_a_round_is_closed_when_enough_have_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    grid, nodes = make_grid({name: good(name) for name in "abc"})
    taken: list[str] = []
    exchange, left = ask_sites(grid, nodes, REQUEST, 5.0, lambda site, reply: taken.append(site), enough=2)
    assert taken == exchange.replies == ["a", "b"]
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [("c", "NOT_NEEDED")]
    assert list(left.values()) == ["c"]


def test_an_answer_to_an_earlier_round_is_put_aside_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "POLL_S", 0.01)
    grid, nodes = make_grid({name: echo(name) for name in "ab"})
    roll = Roll(grid, "abc", 0.1)
    roll.assemble(2)
    grid.silent = frozenset({nodes["b"]})
    taken: list[tuple[str, int]] = []
    take = lambda site, reply: taken.append((site, reply.round))  # noqa: E731
    first = roll.ask(REQUEST, ["a", "b"], take)
    assert [(entry["site"], entry["code"]) for entry in first.rejections] == [("b", "DEADLINE")]
    assert first.late == []
    grid.silent = frozenset()
    second = roll.ask(replace(REQUEST, round=3), ["a", "b"], take)
    assert second.late == [{"site": "b", "stage": "1", "round": "2", "action": "train"}]
    assert taken == [("a", 2), ("a", 3), ("b", 3)]
    assert roll.ask(replace(REQUEST, round=4), ["a", "b"], take).late == []


def echo(site: str) -> Answer:
    return lambda message, request: pack_reply(
        replace(GOOD, site=site, stage=request.stage, round=request.round), message
    )


class ChangingGrid(SilentGrid):
    """A grid some of whose nodes are away."""

    away: frozenset[int] = frozenset()

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in super().get_node_ids() if node not in self.away]


def test_a_site_that_goes_and_comes_back_is_known_again() -> None:
    grid, nodes = make_grid({name: echo(name) for name in ("north", "south")}, ChangingGrid)
    grid.away = frozenset({nodes["south"]})
    roll = Roll(grid, "abc", 5.0)
    roll.assemble(1)
    assert roll.present() == ["north"]
    grid.away = frozenset()
    assert roll.present() == ["north", "south"]
    grid.away = frozenset({nodes["north"]})
    assert roll.present() == ["south"]
    exchange = roll.ask(REQUEST, ["north", "south"], lambda site, reply: None)
    assert exchange.replies == ["south"]
    grid.away = frozenset()
    assert roll.present() == ["north", "south"]


def test_a_node_that_takes_the_name_of_one_that_is_there_is_not_let_in() -> None:
    grid, nodes = make_grid({"first": echo("north"), "second": echo("north")}, ChangingGrid)
    grid.away = frozenset({nodes["second"]})
    roll = Roll(grid, "abc", 5.0)
    roll.assemble(1)
    grid.away = frozenset()
    assert roll.present() == ["north"]
    grid.away = frozenset({nodes["first"]})  # the first is gone: the name is free, as after a change of machine
    assert roll.present() == ["north"]


def test_sites_are_found_by_their_own_names() -> None:
    grid, _ = make_grid({name: replying(Reply(name, "abc")) for name in ("south", "north")})
    roll = Roll(grid, "abc", 5.0)
    roll.assemble(2)
    assert roll.present() == ["north", "south"]


def test_what_a_site_tells_of_its_patients_is_kept_as_far_as_it_is_on_the_list() -> None:
    told = {"cohort/csPCa/yes": 30.0, "cohort/csPCa/no": -1.0, "cohort/name/Smith": 1.0, "train/loss": 1.0}
    grid, _ = make_grid({"north": replying(Reply("north", "abc", metrics=told)), "south": replying(Reply("south"))})
    roll = Roll(grid, "abc", 5.0)
    roll.assemble(2)
    assert roll.cohorts == {"north": {"csPCa/yes": 30.0}}


@pytest.mark.parametrize(
    ("answers", "expected", "message"),
    [
        ({"a": replying(Reply("same")), "b": replying(Reply("same"))}, 2, "SAME_NAME"),
        ({"a": replying(Reply("a")), "b": replying(Refusal("DataError"))}, 2, "1 are ready.*DataError"),
        ({"a": replying(Reply("a"))}, 2, "1 of 2 sites were there"),
    ],
)
def test_a_federation_that_is_not_complete_is_said(answers: dict[str, Answer], expected: int, message: str) -> None:
    grid, _ = make_grid(answers)
    with pytest.raises(RoundError, match=message):
        Roll(grid, "abc", 0.1).assemble(expected)
