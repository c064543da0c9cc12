"""One exchange: who answers, who does not, and what is admitted; the grid is scripted, the wire is real."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from prostafed.common.errors import RoundError
from prostafed.common.messages import Refusal, Reply, Request
from prostafed.common.wire import pack_reply, unpack_request
from prostafed.server import rounds
from prostafed.server.rounds import ask_sites, find_sites
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


def make_grid(answers: dict[str, Answer]) -> tuple[SilentGrid, dict[str, int]]:
    app = ClientApp()

    @app.query("hello")
    @app.train("round")
    def answer(message: Message, context: Context) -> Message:
        return answers[str(context.node_config["site"])](message, unpack_request(message))

    grid = SilentGrid(app, [{"site": site} for site in answers], {})
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
    return ask_sites(grid, nodes, REQUEST, deadline_s, lambda site, reply: taken.append(site)), taken


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
        (replying(replace(GOOD, site="bad", tensors={})), "WRONG_TENSORS"),
        (replying(replace(GOOD, site="bad", tensors={"encoder.weight": np.ones((2, 3), np.float32)})), "WRONG_TENSORS"),
        (replying(replace(GOOD, site="bad", tensors={"encoder.weight": np.ones((2, 2), np.float64)})), "WRONG_TENSORS"),
        (
            replying(replace(GOOD, site="bad", tensors={**GOOD.tensors, "head.weight": np.ones(1, np.float32)})),
            "WRONG_TENSORS",
        ),
        (
            replying(replace(GOOD, site="bad", tensors={"encoder.weight": np.full((2, 2), np.nan, np.float32)})),
            "NOT_FINITE",
        ),
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
    assert exchange.rejections == [{"site": "b", "code": "DEADLINE", "text": "no answer within 0 s"}]


def test_sites_are_found_by_their_own_names() -> None:
    grid, nodes = make_grid({name: replying(Reply(name, "abc")) for name in ("south", "north")})
    assert find_sites(grid, 2, 5.0, "abc") == {"north": nodes["north"], "south": nodes["south"]}


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
        find_sites(grid, expected, 0.1, "abc")
