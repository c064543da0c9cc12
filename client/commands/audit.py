"""audit: what happened at the gate; whether its files were changed; the head that shows it."""

from typing import TYPE_CHECKING, Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile, is_group_alone
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.shell.command import TYPER, print_result
from prostafed.common.shell.options import Json

if TYPE_CHECKING:
    from prostafed.common.shell.chained_file import Head

app = typer.Typer(help="Show what was asked, approved, answered and refused here.", **TYPER)

Last = Annotated[int, typer.Option("--last", min=0, help="Lines to show, the last ones; 0 shows all.")]


@app.callback(invoke_without_command=True)
def audit(context: typer.Context, site_file: SiteFile = DEFAULT_SITE, last: Last = 20, as_json: Json = False) -> None:
    """Show what was asked, approved, answered and refused here. Exit 1: a file was changed."""
    from prostafed.client.commands.show import show_audit
    from prostafed.client.gate.audit import read_audit

    if not is_group_alone(context, site_file):
        return
    lines, wrong = read_audit(site_file.resolve().parent)
    shown = lines[-last:] if last else lines
    told = {"lines": shown, "of": len(lines), "holds": not wrong, "wrong": wrong}
    print_result(told, show_audit(shown, len(lines), wrong), as_json)
    if wrong:
        raise typer.Exit(1)


@app.command()
def verify(
    site_file: SiteFile = DEFAULT_SITE,
    expect: Annotated[
        str, typer.Option("--expect", metavar="NUMBER:DIGEST", help="What audit head said once; kept elsewhere.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Say whether a line of audit or outbox was changed or taken out; with --expect, cut off too. Exit 1: it was."""
    from prostafed.client.gate.audit import FILE, read_whole
    from prostafed.client.gate.outbox import read_outbox
    from prostafed.common.shell.rotating import find_difference, list_parts

    folder, expected = site_file.resolve().parent, _read_head(expect) if expect else None
    lines, head, wrong = read_whole(folder)
    if not wrong and expected is not None:
        wrong = find_difference(lines, head, expected)
    try:
        answers = len(read_outbox(folder))
    except CheckpointError as error:
        wrong, answers = f"{wrong} {error}".strip(), 0
    files = [part.name for part in list_parts(folder / FILE)]
    hint = "" if expect else " Whether the last ones were cut off, only --expect shows."
    parts = "1 file" if len(files) == 1 else f"{len(files)} files"
    text = wrong or f"{len(lines)} lines in {parts}, {answers} in the outbox: none changed, none taken out.{hint}"
    told = {"holds": not wrong, "wrong": wrong, "lines": len(lines), "files": files, "answers": answers}
    print_result(told, text, as_json)
    if wrong:
        raise typer.Exit(1)


@app.command()
def head(site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """Print number and digest of the last line. Keep them elsewhere: they show later what was cut off. Exit 1: none."""
    from prostafed.client.gate.audit import read_whole

    _, found, wrong = read_whole(site_file.resolve().parent)
    told = {"number": found.number, "digest": found.digest, "wrong": wrong}
    print_result(told, wrong or f"{found.number}:{found.digest}", as_json)
    if wrong or not found.number:
        raise typer.Exit(1)


def _read_head(text: str) -> "Head":
    from prostafed.common.shell.chained_file import Head

    number, _, digest = text.strip().partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise ConfigurationError(f"--expect is {text!r}; expected NUMBER:DIGEST, as prostafed-site audit head prints.")
    return Head(int(number), digest)
