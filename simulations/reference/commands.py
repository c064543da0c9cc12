"""commands.md: every command with its options, from the programs' own help."""

import html

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from prostafed.client.cli import app as site
from prostafed.server.cli import app as server
from prostafed.simulations.cli import app as sim

PROGRAMS = {"prostafed-site": site, "prostafed-server": server, "prostafed-sim": sim}


def describe_commands() -> str:
    """Return the page."""
    parts = ["# Every command\n", "What `--help` says, of each of the three programs.\n"]
    for name, app in PROGRAMS.items():
        command = get_command(app)
        text = get_docs_for_click(obj=command, ctx=typer.Context(command), name=name)
        parts.append("\n".join(f"#{line}" if line.startswith("#") else line for line in text.splitlines()))
    return html.unescape("\n".join(parts))
