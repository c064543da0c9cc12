"""One exchange: who answers, who does not, and what is admitted; the grid is scripted, the wire is real."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from prostafed.common.exchange.compression import list_slots
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_reply, unpack_request
from prostafed.server.exchange import exchange as rounds
from prostafed.server.exchange.exchange import Terms, ask_sites
from prostafed.simulations.run.engine.grid import LocalGrid

WEIGHT = {"encoder.weight": np.zeros((2, 2), np.float32)}
REQUEST = Request("train", "run", "abc", 1, 2, WEIGHT, returns=list_slots(WEIGHT, "none", 1.0))
GOOD = Reply("", "abc", 1, 2, 5, {"encoder.weight": np.ones((2, 2), np.float32)})
NONSENSE = RecordDict(
    {
        "answer": ConfigRecord({"site": "bad", "study_hash": "abc", "stage": "one", "round": 2, "cases": 5}),
        "layout": ConfigRecord({"names": [], "dtypes": [], "shapes": []}),
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
    @app.query("keys")
    @app.query("agree")
    @app.query("unmask")
    @app.train("round")
    @app.evaluate("round")
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
    exchange, _ = ask_sites(grid, nodes, REQUEST, Terms(deadline_s), lambda site, reply: taken.append(site))
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
    exchange, left = ask_sites(grid, nodes, REQUEST, Terms(5.0, close_after=2), lambda site, reply: taken.append(site))
    assert taken == exchange.replies == ["a", "b"]
    assert [(entry["site"], entry["code"]) for entry in exchange.rejections] == [("c", "NOT_NEEDED")]
    assert list(left.values()) == ["c"]
