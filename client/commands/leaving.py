"""outbox, halt and go-on: a person sees what leaves, lets it leave, or stops it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile, is_group_alone, name_user
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.command import TYPER, print_result
from prostafed.common.shell.options import Json

app = typer.Typer(help="List what left this site; show, release or decline an update that waits.", **TYPER)

Number = Annotated[int, typer.Argument(metavar="N", help="The number of the answer in the outbox.")]
Last = Annotated[int, typer.Option("--last", min=0, help="Answers to show, the last ones; 0 shows all.")]


@app.callback(invoke_without_command=True)
def outbox(context: typer.Context, site_file: SiteFile = DEFAULT_SITE, last: Last = 20, as_json: Json = False) -> None:
    """List the answers that left this site, and the updates that wait for a person (hold in the site file)."""
    from prostafed.client.commands.show import show_outbox
    from prostafed.client.gate.outbox import read_outbox

    if not is_group_alone(context, site_file):
        return
    entries = read_outbox(site_file.resolve().parent)
    shown = entries[-last:] if last else entries
    waiting = [entry.number for entry in entries if entry.state == "waiting"]
    told = {"answers": [entry.as_json() for entry in shown], "of": len(entries), "waiting": waiting}
    print_result(told, show_outbox(shown, len(entries), waiting), as_json)


@app.command()
def show(number: Number, site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """Show what is in an update: names, shapes and norms of tensors, and all metrics."""
    from prostafed.client.commands.show import show_content
    from prostafed.client.rounds.content import describe_content
    from prostafed.client.site.site_file import read_site_file

    content = describe_content(site_file.resolve().parent, read_site_file(site_file).memory, number)
    print_result(content, show_content(content), as_json)


@app.command()
def release(number: Number, site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """Let an update leave that waits. The coordinator asks for it again within a minute or two."""
    _decide(site_file, number, "released", "", as_json)


@app.command()
def decline(
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="Why. It stays here.")] = "",
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Refuse an update that waits. That is final for its round: this site has no part in it."""
    _decide(site_file, number, "declined", reason, as_json)


def halt(
    reason: Annotated[str, typer.Option("--reason", help="Why. It stays here.")] = "",
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Let nothing leave this site from now on: training stops at its next step, an upload between two parts."""
    from prostafed.client.gate import halt as gate
    from prostafed.client.site.site_file import read_site_file

    read_site_file(site_file)  # else a halt would be kept where no site is
    folder = site_file.resolve().parent
    gate.halt(folder, name_user(), reason)
    text = f"{gate.say_halt(folder)} What has left before cannot be called back. To go on: prostafed-site go-on."
    print_result({"halted": True, "by": name_user(), "reason": reason}, text, as_json)


def go_on(
    site_file: SiteFile = DEFAULT_SITE,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without a question.")] = False,
    as_json: Json = False,
) -> None:
    """Let a halted site work again: the round goes on where it stopped. Exit 1: it stays halted."""
    from prostafed.client.gate import halt as gate

    folder = site_file.resolve().parent
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError("Nobody can answer here: there is no terminal. Add --yes to go on without a question.")
    if (said := gate.say_halt(folder)) and not yes:
        typer.echo(said, err=True)
        if not typer.confirm("May this site answer its coordinator again?", err=True):
            typer.echo("It stays halted.", err=True)
            raise typer.Exit(1)
    gate.go_on(folder, name_user())
    print_result({"halted": False, "by": name_user()}, "This site works again. Its coordinator asks anew.", as_json)


def _decide(site_file: Path, number: int, decision: str, reason: str, as_json: bool) -> None:
    from prostafed.client.gate.outbox import decide

    line = decide(site_file.resolve().parent, number, decision, name_user(), reason).line
    told: dict[str, Any] = {"number": number, "state": decision, "run": line["run"], "sha256": line["sha256"]}
    place = f"the update of {line['run']}, stage {line['stage']}, round {line['round']}"
    says = {
        "released": f"Released {place}: it leaves when the coordinator asks again.",
        "declined": f"Declined {place}.",
    }
    print_result(told, says[decision], as_json)
