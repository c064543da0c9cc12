"""The pages, by name; and commands.md: every command with its options, from the programs' own help."""

import html
import re
import sys
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from prostafed.client.cli import app as site
from prostafed.common.shell.files import write_text
from prostafed.server.cli import app as server
from prostafed.simulations.cli import app as sim
from prostafed.simulations.reference.choices import describe_choices, tabulate_methods
from prostafed.simulations.reference.keys import describe_keys

PROGRAMS = {"prostafed-site": site, "prostafed-server": server, "prostafed-sim": sim}


def describe_commands() -> str:
    """Return commands.md."""
    parts = ["# Every command\n", "What `--help` says, of each of the three programs.\n"]
    for name, app in PROGRAMS.items():
        command = get_command(app)
        text = get_docs_for_click(obj=command, ctx=typer.Context(command), name=name)
        parts.append("\n".join(f"#{line}" if line.startswith("#") else line for line in text.splitlines()))
    return html.unescape("\n".join(parts))


HEADER = "<!-- made by `make docs`; edit what it is made from -->\n"
PAGES = {"keys.md": describe_keys, "commands.md": describe_commands, "choices.md": describe_choices}
METHODS_PAGE = "methods.md"  # written by a person but for its table
TABLE = re.compile(r"(?<=<!-- made by `make docs` -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)


def write_reference(folder: Path) -> None:
    """Write every page into `folder`, and the table into its methods.md."""
    for name, describe in PAGES.items():
        write_text(folder / name, f"{HEADER}\n{describe()}")
    page = (folder / METHODS_PAGE).read_text(encoding="utf-8")
    write_text(folder / METHODS_PAGE, TABLE.sub(lambda found: tabulate_methods(), page))


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
