"""What the sites make of the global tensors on their own cases: they compute, and only aggregates come back."""

from collections.abc import Sequence
from typing import Any, Protocol

from prostafed.common.messages import Reply, Request
from prostafed.common.study import Finetune, Study
from prostafed.common.tensors import Tensors
from prostafed.server.rounds import Exchange, OnReply
from prostafed.server.run_folder import Row


class Asked(Protocol):
    """What evaluation needs of the sites."""

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply) -> Exchange:
        """Ask `sites`; each admitted reply goes to `on_reply`."""


def evaluate(
    study: Study, run: str, sites: Asked, there: Sequence[str], tensors: Tensors, stage_number: int, round_number: int
) -> list[Row]:
    """Return the metric rows of every site that answered, none in a round the study does not evaluate."""
    stage = study.stage[stage_number - 1]
    assert isinstance(stage, Finetune)
    last = round_number == stage.rounds
    if not last and round_number % stage.evaluate_every:
        return []
    splits = ("validation", "test") if last else ("validation",)
    rows: dict[str, list[Row]] = {}

    def on_metrics(site: str, reply: Reply) -> None:
        rows[site] = metric_rows(stage_number, round_number, reply)

    sites.ask(Request("evaluate", run, study.hash(), stage_number, round_number, tensors, splits), there, on_metrics)
    return [row for site in sorted(rows) for row in rows[site]]


def metric_rows(stage: int, round_number: int, reply: Reply) -> list[Row]:
    """Return one row per metric of a reply."""
    rows = []
    for name, value in sorted(reply.metrics.items()):
        split, _, metric = name.partition("/")
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
