"""What the documentation says of keys and commands is what the code does."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from prostafed.client.cli import app as site_app
from prostafed.client.site import Site
from prostafed.common.ssl import METHODS
from prostafed.common.study import Study
from prostafed.common.tasks import TASKS
from prostafed.server.aggregation import AGGREGATORS
from prostafed.server.cli import app as server_app
from prostafed.simulations.cli import app as sim_app
from prostafed.simulations.federation import Federation
from prostafed.simulations.reference import _keys, _sections, write_reference

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {"prostafed-sim": sim_app, "prostafed-server": server_app, "prostafed-site": site_app}


def every_key(section: type) -> set[str]:
    names = set()
    for name, annotation, _, description in _keys(section):
        assert description, f"{section.__name__}.{name} has no description"
        names.add(name)
        for inner in _sections(annotation):
            names |= every_key(inner)
    return names


def test_the_reference_of_keys_is_that_of_the_models(tmp_path: Path) -> None:
    write_reference(tmp_path)
    assert (ROOT / "docs" / "keys.md").read_text() == (tmp_path / "keys.md").read_text(), "run `make docs`"


@pytest.mark.parametrize("model", [Study, Federation, Site, *(entry.parameters for entry in METHODS.values())])
def test_every_key_has_a_row(model: type[BaseModel]) -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "keys.md").read_text(), flags=re.MULTILINE))
    assert every_key(model) <= documented


def test_every_command_the_readme_names_exists_and_has_help() -> None:
    named = set(re.findall(r"(prostafed-(?:sim|server|site)) ([a-z]+)", README))
    assert named, "the README names no command"
    existing = {
        (program, command.name or command.callback.__name__)
        for program, app in COMMANDS.items()
        for command in app.registered_commands
        if command.callback
    }
    assert named <= existing
    assert existing <= named, "a command is missing in the README"
    for program, app in COMMANDS.items():
        for command in app.registered_commands:
            assert command.callback is not None
            assert command.callback.__doc__, f"{program} has a command without help"


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) == targets


@pytest.mark.parametrize("table", [METHODS, TASKS, AGGREGATORS])
def test_every_entry_of_a_table_has_a_row_in_the_readme(table: dict[str, object]) -> None:
    for name in table:
        assert f"| `{name}` |" in README
