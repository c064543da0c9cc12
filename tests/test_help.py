"""Help is plain sentences, and all of it reaches the reader."""

from collections.abc import Iterator

import click
import pytest
import typer

from prostafed.client.cli import app as site_app
from prostafed.server.cli import app as server_app
from prostafed.simulations.cli import app as sim_app


def list_help(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
    """Where a text of help stands, and the text: of a command, its arguments, options and commands."""
    yield name, " ".join((command.help or "").split())
    for parameter in command.params:
        yield f"{name} {parameter.opts[0]}", getattr(parameter, "help", None) or ""
    if isinstance(command, click.Group):
        for each, inner in command.commands.items():
            yield from list_help(f"{name} {each}", inner)


@pytest.mark.parametrize("app", [site_app, server_app, sim_app])
def test_every_help_is_a_sentence_without_markup(app: typer.Typer) -> None:
    for where, text in list_help("", typer.main.get_command(app)):
        assert text[:1].isalnum(), f"{where}: no help"
        assert text[0] == text[0].upper(), f"{where}: {text}"
        assert text.endswith("."), f"{where}: {text}"
        assert "[" not in text, f"{where}: rich takes square brackets for markup and shows nothing of them"
