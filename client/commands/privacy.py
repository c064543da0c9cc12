"""ledger: what patients were used for here, and what it cost them in privacy."""

import math
from typing import Annotated, Any

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile
from prostafed.common.errors import CheckpointError
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json


def ledger(
    site_file: SiteFile = DEFAULT_SITE,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check that no line and no cohort was changed.")
    ] = False,
    patient: Annotated[
        str | None, typer.Option("--patient", metavar="PSEUDONYM", help="List what this patient contributed to.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what patients were used for here and what it cost them in privacy. Exit 1: the ledger was changed."""
    from prostafed.client.commands.show import say_contribution
    from prostafed.client.gate.ledger import find_audit, list_contributions, read_ledger, say_audit, sum_up
    from prostafed.client.site.site_file import read_site_file

    site, folder = read_site_file(site_file), site_file.resolve().parent
    try:
        lines = read_ledger(folder)
    except CheckpointError as error:
        print_result({"holds": False, "wrong": str(error)}, str(error), as_json)
        raise typer.Exit(1) from error
    count = f"{len(lines)} {'line' if len(lines) == 1 else 'lines'}, none changed or taken out."
    told: dict[str, Any] = {"holds": True, "wrong": "", "of": len(lines)}
    if verify:
        print_result(told, count, as_json)
        return
    if patient is not None:
        found = list_contributions(folder, patient)
        text = "\n".join(map(say_contribution, found)) or f"No study was trained or evaluated on {patient}."
        print_result({**told, "patient": patient, "contributed": found}, text, as_json)
        return
    spent = sum_up(folder, site.privacy.delta)
    budget, delta = site.privacy.epsilon_budget, site.privacy.delta
    rows = [{**vars(each), "epsilon": each.epsilon if math.isfinite(each.epsilon) else None} for each in spent]
    lines_shown = [
        f"{len(each.patients)} patients: {len(each.studies)} studies, {each.rounds} rounds of training, "
        f"{each.evaluations} evaluations; epsilon {say_epsilon(each.epsilon)}"
        for each in spent
    ]
    audit = find_audit(lines)
    lines_shown.append(f"Epsilon audited, in the last run with canaries: {say_audit(audit)}")
    told["audited"] = audit
    limit = f"Budget: epsilon {budget:g}" if budget else "Budget: none is set (epsilon_budget)"
    end = f"{limit}, at delta {delta:g}. Metrics have no noise, and are not in epsilon. {count}"
    told |= {"cohorts": rows, "budget": budget, "delta": delta}
    print_result(told, "\n".join([*lines_shown, end]), as_json)


def say_epsilon(epsilon: float) -> str:
    """Return an epsilon as a person reads it."""
    return f"{epsilon:.3g}" if math.isfinite(epsilon) else "without bound: a round had no noise"
