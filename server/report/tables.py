"""Tidy tables of a run: one row per observation, columns by name. Plots are drawn from them and saved beside them."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from prostafed.common.shell.files import write_text
from prostafed.common.shell.tables import write_table
from prostafed.common.tasks import build_task
from prostafed.server.records.lines import EvaluationLine, RoundLine
from prostafed.server.records.read import RunFolder
from prostafed.server.report.results import Result, list_arms, list_sites
from prostafed.server.report.vocabulary import arm_of

Row = dict[str, Any]


def label_stage(run: RunFolder, number: int) -> str:
    """Return "Stage 1: pretraining (conditional)"."""
    stage = run.stages[number - 1] if number <= len(run.stages) else {}
    if stage.get("kind") == "pretrain":
        return f"Stage {number}: pretraining ({stage.get('method')})"
    return f"Stage {number}: fine-tuning ({stage.get('task')})" if stage else f"Stage {number}"


def tabulate_loss(run: RunFolder) -> list[Row]:
    """Return the training loss per stage, arm, site and round."""
    rows = [
        {"stage": line.stage, "arm": line.arm, "site": site, "round": line.round, "loss": values["loss"]}
        for line in run.rounds
        for site, values in line.metrics.items()
        if "loss" in values
    ]
    rows = rows or [
        {"stage": line.stage, "arm": line.arm, "site": line.site, "round": line.round, "loss": line.value}
        for line in run.metrics
        if (line.split, line.metric) == ("train", "loss")
    ]
    return _in_order(run, rows)


def tabulate_validation(run: RunFolder) -> list[Row]:
    """Return the main validation metric per supervised stage, arm, site and round."""
    rows: list[Row] = []
    for number, stage in enumerate(run.stages, start=1):
        if stage.get("kind") != "finetune":
            continue
        lines = [line for line in run.metrics if line.stage == number and line.split == "validation"]
        measured = {line.metric for line in lines}
        metric = next((name for name in build_task(str(stage.get("task", ""))).metrics if name in measured), None)
        rows += [
            {
                "stage": number,
                "arm": line.arm,
                "site": line.site,
                "round": line.round,
                "metric": line.metric,
                "value": line.value,
                "cases": line.n,
            }
            for line in lines
            if line.metric == metric
        ]
    return _in_order(run, rows)


def tabulate_results(results: Sequence[Result]) -> list[Row]:
    """Return the results that have a value, without the worst sites, which stand there as sites already."""
    return [result.as_row() for result in results if result.scope != "worst" and result.value is not None]


def tabulate_rounds(run: RunFolder) -> list[Row]:
    """Return one row per round of every arm."""
    return [
        {
            "arm": line.arm,
            "stage": line.stage,
            "method_or_task": line.method_or_task,
            "round": line.round,
            "site": line.participants[0] if line.arm == "local" and len(line.participants) == 1 else "all",
            "asked": len(line.participants),
            "replies": len(line.replies),
            "rejections": "; ".join(_describe_rejection(each) for each in line.rejections),
            "seconds": round(line.seconds, 2),
            "received_mb": round(line.bytes_up / 1e6, 3),
            "sent_mb": round(line.bytes_down / 1e6, 3),
            "aggregated": line.aggregated,
        }
        for line in run.rounds
    ]


def tabulate_updates(run: RunFolder) -> list[Row]:
    """Return, per stage, round and site of the federated arm, the norm of its update, its mean cosine to the others'
    and its influence on the mean.
    """
    return [
        {
            "stage": line.stage,
            "round": line.round,
            "site": site,
            "norm": norm,
            "likeness": fmean(line.cosines[site].values()) if line.cosines.get(site) else None,
            "influence": line.influence.get(site),
        }
        for line in run.rounds
        if line.arm == "federated" and line.aggregated
        for site, norm in line.norms.items()
    ]


def tabulate_work(run: RunFolder) -> list[Row]:
    """Return one row per stage and arm: rounds done of those planned, time of one; traffic and rejections of rounds and
    evaluations; rounds that were not aggregated.
    """
    rows = []
    for number, stage in enumerate(run.stages, start=1):
        for arm in planned_arms(run):
            lines = [line for line in run.rounds if (line.stage, line.arm) == (number, arm)]
            exchanges = [*lines, *(line for line in run.evaluations if (line.stage, line.arm) == (number, arm))]
            if arm_of(arm).runs == "none":
                continue
            rows.append(
                {
                    "stage": label_stage(run, number),
                    "arm": arm,
                    "planned": int(stage.get("rounds", 0)) * _count_runs(run, arm),
                    "done": len({(line.round, line.participants) for line in lines if line.aggregated}),
                    "seconds": median([line.seconds for line in lines]) if lines else None,
                    "received_mb": sum(line.bytes_up for line in exchanges) / 1e6,
                    "sent_mb": sum(line.bytes_down for line in exchanges) / 1e6,
                    "rejections": sum(len(line.rejections) for line in exchanges),
                    "not_aggregated": sum(not line.aggregated for line in lines),
                }
            )
    return rows


def _count_runs(run: RunFolder, arm: str) -> int:
    """Return the federations an arm consists of, without those that could not be run."""
    left_out = sum(line.arm == arm for line in run.record.arms_left_out)
    return (len(list_sites(run)) if arm_of(arm).runs == "per site" else 1) - left_out


def planned_arms(run: RunFolder) -> list[str]:
    """Return the arms the study asks for, and any other that has records."""
    asked = ["federated", *run.study.get("arms", {}).get("compare", ())] if run.sites else ["federated"]
    return [*asked, *(arm for arm in list_arms(run) if arm not in asked)]


def list_incidents(run: RunFolder) -> list[RoundLine | EvaluationLine]:
    """Return the rounds with a rejection or without aggregation, and the evaluations with a rejection."""
    rounds = [line for line in run.rounds if line.rejections or not line.aggregated]
    return [*rounds, *(line for line in run.evaluations if line.rejections)]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV with a header; an empty table is an empty file."""
    if rows:
        write_table(path, tuple(rows[0]), rows)
    else:
        write_text(path, "")


def _in_order(run: RunFolder, rows: list[Row]) -> list[Row]:
    """Sort by stage, site as in the federation, arm, round."""
    sites, arms = list_sites(run), list_arms(run)
    place = {site: index for index, site in enumerate(sites)}
    return sorted(
        rows, key=lambda row: (row["stage"], place.get(row["site"], len(sites)), arms.index(row["arm"]), row["round"])
    )


def _describe_rejection(rejection: dict[str, str]) -> str:
    text = f": {rejection['text']}" if rejection.get("text") else ""
    return f"{rejection.get('site', '?')} {rejection.get('code', '')}{text}"
