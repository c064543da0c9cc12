"""What the documentation says of keys and commands is what the code does."""

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from prostafed.client.cli import app as site_app
from prostafed.client.findings import CODES
from prostafed.client.site.site_file import Site
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.ssl import METHODS
from prostafed.common.study import Study
from prostafed.common.tasks import TASKS
from prostafed.server.cli import app as server_app
from prostafed.simulations.cli import app as sim_app
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.reference.keys import _keys, _sections
from prostafed.simulations.reference.pages import PAGES, write_reference

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARAMETERS = dict.fromkeys(entry.parameters for table in (METHODS, AGGREGATORS) for entry in table.values())
COMMANDS = {"prostafed-sim": sim_app, "prostafed-server": server_app, "prostafed-site": site_app}


def every_key(section: type) -> set[str]:
    names = set()
    for name, annotation, _, description, _ in _keys(section):
        assert description, f"{section.__name__}.{name} has no description"
        names.add(name)
        for inner in _sections(annotation):
            names |= every_key(inner)
    return names


def test_generated_pages_are_those_of_the_code(tmp_path: Path) -> None:
    write_reference(tmp_path)
    for name in PAGES:
        assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text(), "run `make docs`"


@pytest.mark.parametrize("model", [Study, Federation, Site, *PARAMETERS])
def test_every_key_has_a_row(model: type[BaseModel]) -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "keys.md").read_text(), flags=re.MULTILINE))
    assert every_key(model) <= documented


def every_command() -> dict[str, typer.models.CommandInfo]:
    """Every command by what a person types, those of groups included."""
    commands = {}
    for program, app in COMMANDS.items():
        groups = [
            (program, app),
            *((f"{program} {group.name}", group.typer_instance) for group in app.registered_groups),
        ]
        for typed, group in groups:
            for command in group.registered_commands:
                assert command.callback is not None
                commands[f"{typed} {command.name or command.callback.__name__}"] = command
    return commands


def test_every_command_is_named_and_has_help() -> None:
    for typed, command in every_command().items():
        assert re.search(rf"{typed}\b", README), f"{typed} is missing in the README"
        assert command.callback.__doc__, f"{typed} has no help"


@pytest.mark.parametrize("page", ["README.md", "docs/hospital.md"])
def test_every_command_a_page_names_exists(page: str) -> None:
    existing = set(every_command())
    groups = {typed.rpartition(" ")[0] for typed in existing}
    named = re.findall(r"prostafed-(?:sim|server|site)(?: [a-z]+){1,2}", (ROOT / page).read_text(encoding="utf-8"))
    assert named, "the page names no command"
    for words in named:
        short = " ".join(words.split()[:2])
        assert (words if short in groups else short) in existing, f"{page} names {words}, which does not exist"


def test_every_finding_is_explained() -> None:
    page = (ROOT / "docs" / "hospital.md").read_text(encoding="utf-8")
    explained = {
        code: cells.split("|")[0].split()
        for codes, cells in re.findall(r"^\| (`[A-Z_0-9`, ]+`) \|(.*)$", page, flags=re.MULTILINE)
        for code in re.findall(r"[A-Z][A-Z_0-9]+", codes)
    }
    assert {code: list(severities) for code, severities in CODES.items()} == explained


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) == targets


@pytest.mark.parametrize("table", [METHODS, TASKS, AGGREGATORS])
def test_every_entry_of_a_table_has_a_row_in_the_readme(table: dict[str, object]) -> None:
    for name in table:
        assert f"| `{name}` |" in README
