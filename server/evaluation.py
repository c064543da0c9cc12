"""What the sites make of the global tensors on their own cases: they compute, and only aggregates come back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prostafed.common.messages import Reply, Request
from prostafed.common.study import Finetune, Study
from prostafed.common.tensors import Tensors
from prostafed.server.pooled import KEYS, check_histograms, pool
from prostafed.server.rounds import Exchange, OnReply
from prostafed.server.run_folder import Row


class Asked(Protocol):
    """What evaluation needs of the sites."""

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply) -> Exchange:
        """Ask `sites`; each admitted reply goes to `on_reply`."""


@dataclass(frozen=True)
class Evaluation:
    """Metric rows by site, and, after a stage's last round, those over the patients of all sites."""

    rows: list[Row]
    pooled: list[Row]


def evaluate(
    study: Study, run: str, sites: Asked, there: Sequence[str], tensors: Tensors, stage_number: int, round_number: int
) -> Evaluation:
    """Return what the sites that answered said, nothing in a round the study does not evaluate."""
    stage = study.stage[stage_number - 1]
    assert isinstance(stage, Finetune)
    last = round_number == stage.rounds
    if not last and round_number % stage.evaluate_every:
        return Evaluation([], [])
    splits = ("validation", "test") if last else ("validation",)
    replies: dict[str, Reply] = {}

    def on_metrics(site: str, reply: Reply) -> None:
        check_histograms(_of_split(reply, "test"))
        replies[site] = reply

    sites.ask(Request("evaluate", run, study.hash(), stage_number, round_number, tensors, splits), there, on_metrics)
    pooled = pool({site: _of_split(reply, "test") for site, reply in replies.items()}, study.seed) if last else []
    return Evaluation(
        [row for site in sorted(replies) for row in metric_rows(stage_number, round_number, replies[site])],
        [{"stage": stage_number, "split": "test", **row} for row in pooled],
    )


def _of_split(reply: Reply, split: str) -> dict[str, float]:
    return {name.partition("/")[2]: value for name, value in reply.metrics.items() if name.startswith(f"{split}/")}


def metric_rows(stage: int, round_number: int, reply: Reply) -> list[Row]:
    """Return one row per metric of a reply."""
    rows = []
    for name, value in sorted(reply.metrics.items()):
        split, _, metric = name.partition("/")
        if metric in KEYS:  # of no use by themselves: see pooled.json
            continue
        count = int(reply.metrics.get(f"{split}/n", reply.cases))
        rows.append(
            {
                "stage": stage,
                "round": round_number,
                "site": reply.site,
                "split": split,
                "metric": metric,
                "value": value,
                "n": count,
            }
        )
    return rows


def plain_metrics(reply: Reply) -> dict[str, Any]:
    """Return a reply's metrics without their split."""
    return {name.partition("/")[2]: value for name, value in reply.metrics.items()}
