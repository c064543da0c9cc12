"""prostafed-site: one hospital. Its commands, in the order they are first needed; each lies in commands/."""

from collections.abc import Callable

import typer

from prostafed.client.commands import (
    approval,
    archive,
    attack,
    audit,
    data,
    dossier,
    joining,
    leaving,
    manifest,
    predict,
    privacy,
    taking_part,
)
from prostafed.common.shell.command import TYPER, run_command

app = typer.Typer(help="Take part in a federation as a hospital.", no_args_is_help=True, **TYPER)


@app.callback()
def site() -> None:
    """Take part in a federation as a hospital."""


COMMANDS: tuple[tuple[str, tuple[Callable[..., None], ...]], ...] = (
    ("Set up", (taking_part.init, joining.join, taking_part.key, taking_part.check)),
    ("Data", (archive.pull, data.index, data.qc, data.find)),
    ("Take part", (taking_part.start, taking_part.status)),
    ("Approve", (approval.requests, approval.approve, approval.withdraw)),
    ("Privacy", (leaving.halt, leaving.go_on, privacy.ledger, dossier.dossier)),
    ("Use a model", (predict.predict, predict.export, attack.attack)),
)
for panel, commands in COMMANDS:
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for group, name, panel in (
    (manifest.app, "manifest", "Data"),
    (leaving.app, "outbox", "Privacy"),
    (audit.app, "audit", "Privacy"),
):
    app.add_typer(group, name=name, rich_help_panel=panel)


def main() -> None:
    """Entry point."""
    run_command(app)
