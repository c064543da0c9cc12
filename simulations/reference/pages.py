"""The pages, by name."""

from pathlib import Path

from prostafed.common.shell.files import write_text
from prostafed.simulations.reference.commands import describe_commands
from prostafed.simulations.reference.keys import describe_keys

HEADER = "<!-- made by `make docs`; edit what it is made from -->\n"
PAGES = {"keys.md": describe_keys, "commands.md": describe_commands}


def write_reference(folder: Path) -> None:
    """Write every page into `folder`."""
    for name, describe in PAGES.items():
        write_text(folder / name, f"{HEADER}\n{describe()}")
