"""The pages, by name."""

import re
from pathlib import Path

from prostafed.common.shell.files import write_text
from prostafed.simulations.reference.choices import describe_choices, tabulate_methods
from prostafed.simulations.reference.commands import describe_commands
from prostafed.simulations.reference.keys import describe_keys

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
