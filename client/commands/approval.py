"""requests, approve and withdraw: a person of the hospital decides which studies are answered."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile, name_user
from prostafed.common.errors import ApprovalError, ConfigurationError, DataError
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json

if TYPE_CHECKING:
    from prostafed.client.commands.statement import Facts
    from prostafed.common.study import Study

DAYS = 90  # that an approval holds by default

Named = Annotated[str, typer.Argument(metavar="HASH|NAME", help="The study's hash, its first digits, or its name.")]


def requests(site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """List the studies that wait for approval, and those that are approved."""
    from prostafed.client.commands.show import show_approvals
    from prostafed.client.gate.overview import describe_approved
    from prostafed.client.gate.waiting import list_waiting

    waiting = [
        {**vars(each), "study": digest, "name": each.study.name}
        for digest, each in list_waiting(site_file.resolve().parent).items()
    ]
    approved = describe_approved(site_file)
    print_result({"waiting": waiting, "approved": approved}, show_approvals(waiting, approved), as_json)


def approve(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="The study file, or the hash or the name of a study that waits."),
    ],
    site_file: SiteFile = DEFAULT_SITE,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help=f"The last day. By default in {DAYS} days."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="Most rounds of training. By default the study's own and its retries."),
    ] = None,
    initial: Annotated[
        Path | None, typer.Option("--initial", metavar="FILE", help="The file of weights that the study starts from.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a study does with this hospital's cases, ask, and approve it. Exit 1: it is not approved."""
    from prostafed.client.commands.statement import write_statement
    from prostafed.client.gate.approval import read_initial
    from prostafed.client.gate.approval_file import Approval, keep_approval, read_server
    from prostafed.client.gate.overview import find_peers, find_study

    if not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "Nobody can answer here: there is no terminal. Add --yes to approve without a question."
        )
    read_server(site_file)
    asked, now = find_study(site_file, study), datetime.now(UTC)
    end = until.date() if until else (now + timedelta(days=DAYS)).date()
    if end < now.date():
        raise ConfigurationError(f"--until is {end}, which is over: today is {now.date()}. Name a later day.")
    digest, left_out = read_initial(asked, initial)
    peers = find_peers(site_file, asked)
    most = rounds or sum(stage.rounds for stage in asked.stage) + asked.round.retries
    facts = replace(_gather(site_file, asked, most, str(end)), peers=peers)
    statement = write_statement(facts)
    typer.echo(statement, err=as_json)
    typer.echo(_say_earlier(site_file, asked), err=True, nl=False)
    if not yes and not typer.confirm("\nDo you approve this study?", err=True):
        typer.echo("Nothing was approved.", err=True)
        raise typer.Exit(1)
    approval = Approval(
        study_hash=asked.hash(),
        study=asked.canonical(),
        name=asked.name,
        approved_at=now.isoformat(timespec="seconds"),
        until=str(end),
        rounds=most,
        by=name_user(),
        statement=statement,
        initial_digest=digest,
        initial_left_out=left_out,
        peers=peers,
    )
    keep_approval(site_file, approval, "approved")
    told: dict[str, Any] = {
        "approved": True,
        "study": asked.hash(),
        "name": asked.name,
        "until": str(end),
        "rounds": most,
    }
    told |= {"statement": statement, "stages": [{**vars(cost), "round_s": cost.round_s} for cost in facts.costs]}
    text = f"\nApproved until {end}, for {most} rounds at most. To withdraw: prostafed-site withdraw {asked.name}"
    print_result(told, text, as_json)


def withdraw(study: Named, site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """Withdraw the approval of a study: from the next request on it is refused."""
    from prostafed.client.gate import approval_file
    from prostafed.client.gate.overview import describe_approved, find_hash

    digest = find_hash(study, {str(each["study"]): str(each["name"]) for each in describe_approved(site_file)})
    approval = approval_file.read_approval(site_file, digest)
    if approval is None or approval.withdrawn_at:
        raise ConfigurationError(f"The approval of {study} is withdrawn already. Nothing was changed.")
    approval_file.withdraw(site_file, approval)
    text = f"Withdrew {approval.name}: it is refused from the next request on. What has left cannot be called back."
    print_result({"withdrawn": digest, "name": approval.name}, text, as_json)


def _gather(site_file: Path, study: "Study", rounds: int, until: str) -> "Facts":
    """Return what the statement tells; raises DataError where the site's cases do not fit the study."""
    from prostafed.client.commands.show import showing
    from prostafed.client.commands.statement import Facts
    from prostafed.client.rounds.estimate import estimate_stage
    from prostafed.client.rounds.planning import cost_noise
    from prostafed.client.rounds.workplace import open_workplace
    from prostafed.common.imaging.case_folder import open_case_folder

    try:
        place = open_workplace(site_file.resolve(), study.canonical())
        costs = []
        with showing("Measuring a step of each stage") as on_stage:
            for number in range(1, len(study.stage) + 1):
                on_stage(number - 1, len(study.stage))
                costs.append(estimate_stage(place, number))
                on_stage(number, len(study.stage))
    except DataError as error:
        raise DataError(f"{error} This site cannot take part in {study.name}; nothing was approved.") from error
    indexed = open_case_folder(place.site.cases).records
    device = str(place.device)
    noise = cost_noise(place)
    return Facts(study, place.site, indexed, place.cases.records, place.splits, device, costs, rounds, until, noise)


def _say_earlier(site_file: Path, study: "Study") -> str:
    from prostafed.client.gate.approval_file import read_approval

    try:
        earlier = read_approval(site_file, study.hash())
    except ApprovalError as error:
        return f"\n{error}\n"
    if earlier is None:
        return ""
    return f"\nThe study was approved at {earlier.approved_at[:16]} UTC until {earlier.until}. This replaces that.\n"
