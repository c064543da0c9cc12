"""What the documentation says of keys, commands, files and links is so, and it can be read."""

import re
import shutil
from pathlib import Path
from statistics import median

import pytest
import typer
from pydantic import BaseModel

from prostafed.client.cli import app as site_app
from prostafed.client.findings import CODES
from prostafed.client.site.site_file import Site
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.models import ENCODERS
from prostafed.common.ssl import METHODS
from prostafed.common.study import Study
from prostafed.common.tasks import TASKS
from prostafed.server.cli import app as server_app
from prostafed.simulations.cli import app as sim_app
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.reference.keys import _keys, _sections
from prostafed.simulations.reference.pages import METHODS_PAGE, write_reference
from prostafed.simulations.reference.pages import PAGES as GENERATED

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
WRITTEN = [name for name, text in PAGES.items() if not text.startswith("<!-- made by")]  # by a person
CHECKED = {**PAGES, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
PARAMETERS = dict.fromkeys(entry.parameters for table in (METHODS, AGGREGATORS) for entry in table.values())
COMMANDS = {"prostafed-sim": sim_app, "prostafed-server": server_app, "prostafed-site": site_app}
ENDINGS = "csv|css|j2|json|md|png|py|svg|toml"
TOP = "client|common|server|simulations|tests|docs|deploy|examples"


def read_prose(page: str) -> str:
    """Return a page without its code, tables and comments."""
    page = re.sub(r"^```.*?^```$|<!--.*?-->", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^(?:\||    ).*$", "", page, flags=re.MULTILINE)


def count_words(page: str) -> list[int]:
    """Return the words of each sentence; a heading is none, a piece of code is one word."""
    prose = re.sub(r"^#.*$", "", read_prose(page), flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "CODE", prose))
    parts = re.split(r"\n\s*\n|^\s*(?:-|\d+\.) ", prose, flags=re.MULTILINE)
    sentences = [each for part in parts for each in re.split(r"(?<=[.!?])[)*]*\s+(?=\W*[A-Z])", part)]
    return [words for each in sentences if (words := len(re.findall(r"\S*\w\S*", each)))]


def list_anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_broken_links(page: str, folder: Path) -> list[str]:
    """Return the relative links of a page in `folder` that lead nowhere."""

    def leads(link: str) -> bool:
        path, _, anchor = link.partition("#")
        target = folder / path
        if not (path and anchor):
            return anchor in list_anchors(page) if anchor else target.exists()
        return target.is_file() and anchor in list_anchors(target.read_text(encoding="utf-8"))

    return [link for link in re.findall(r"\]\(([^)\s]+)\)", page) if not re.match(r"[a-z]+:", link) and not leads(link)]


def find_absent_files(page: str) -> list[str]:
    """Return the files and folders of the repository that a page names and that are not there."""
    named = re.findall(rf"(?<![\w/.-])(?:{TOP})/(?:[\w.-]*\w/)*(?:[\w-]+(?:\.(?:{ENDINGS})\b)?)?", page)
    modules = {path.name for top in TOP.split("|") for path in (ROOT / top).rglob("*.py")}
    alone = set(re.findall(r"`(\w+\.py)`", page))
    absent = [name for name in named if not ((ROOT / name).exists() or (ROOT / f"{name}.py").exists())]
    return absent + sorted(alone - modules)


def every_key(section: type) -> set[str]:
    names = set()
    for name, annotation, _, description, _ in _keys(section):
        assert description, f"{section.__name__}.{name} has no description"
        names.add(name)
        for inner in _sections(annotation):
            names |= every_key(inner)
    return names


def test_generated_pages_are_those_of_the_code(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docs" / METHODS_PAGE, tmp_path)
    write_reference(tmp_path)
    for name in (*GENERATED, METHODS_PAGE):
        assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text(), "run `make docs`"


@pytest.mark.parametrize("model", [Study, Federation, Site, *PARAMETERS])
def test_every_key_has_a_row(model: type[BaseModel]) -> None:
    assert every_key(model) <= set(re.findall(r"^\| `(\w+)` \|", PAGES["docs/keys.md"], flags=re.MULTILINE))


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
                commands[f"{typed} {command.name or command.callback.__name__.replace('_', '-')}"] = command
    return commands


def find_absent_commands(page: str) -> list[str]:
    """Return the commands that a page names and that do not exist."""
    existing = set(every_command())
    groups = {typed.rpartition(" ")[0] for typed in existing}
    named = re.findall(r"prostafed-(?:sim|server|site)(?: [a-z]+(?:-[a-z]+)*){1,2}", page)
    short = {words: " ".join(words.split()[:2]) for words in named}
    return [words for words in named if (words if short[words] in groups else short[words]) not in existing | groups]


def test_every_command_is_named_and_has_help() -> None:
    for typed, command in every_command().items():
        assert any(re.search(rf"{typed}\b", PAGES[page]) for page in WRITTEN), f"no page names {typed}"
        assert command.callback.__doc__, f"{typed} has no help"


@pytest.mark.parametrize("name", PAGES)
def test_every_command_a_page_names_exists(name: str) -> None:
    assert find_absent_commands(PAGES[name]) == []


def test_every_finding_is_explained() -> None:
    explained = {
        code: cells.split("|")[0].split()
        for codes, cells in re.findall(r"^\| (`[A-Z_0-9`, ]+`) \|(.*)$", PAGES["docs/hospital.md"], flags=re.MULTILINE)
        for code in re.findall(r"[A-Z][A-Z_0-9]+", codes)
    }
    assert {code: list(severities) for code, severities in CODES.items()} == explained


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) == targets


@pytest.mark.parametrize("table", [METHODS, TASKS, AGGREGATORS, ENCODERS])
def test_every_entry_of_a_table_has_a_row(table: dict[str, object]) -> None:
    for name in table:
        assert f"| `{name}` |" in PAGES["docs/choices.md"]


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", WRITTEN)
def test_lines_wrap_at_100(name: str) -> None:
    assert [line for line in read_prose(PAGES[name]).splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("name", WRITTEN)
def test_sentences_are_short(name: str) -> None:
    assert median(count_words(PAGES[name])) <= 16


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_says_first_for_whom_it_is(name: str) -> None:
    assert re.match(r"# .+\n\nFor .+\n", PAGES[name])


@pytest.mark.parametrize("name", CHECKED)
def test_links_lead_somewhere(name: str) -> None:
    assert find_broken_links(CHECKED[name], (ROOT / name).parent) == []


@pytest.mark.parametrize("name", CHECKED)
def test_files_a_page_names_exist(name: str) -> None:
    assert find_absent_files(CHECKED[name]) == []


def test_what_is_counted_and_found() -> None:
    page = "# A title\n\nYou run it. It (Li et al. 2020)\nwrites `a b c` here.\n\n- one, [two three](x.md)\n\n| a |\n"
    assert count_words(page + "\n    some code\n\n```\nMore. Code.\n```\n") == [3, 8, 3]
    assert read_prose("a\n    code\n| t |\n<!-- made\nby --> b").split() == ["a", "b"]
    assert list_anchors("# What's `new`, and why?\n```\n# no\n```\n") == {"whats-new-and-why"}
    links = (
        "[a](README.md) [b](README.md#work-on-it) [c](https://x.org) [d](no.md) [e](README.md#no) [f](#no) [g](no.md#a)"
    )
    assert find_broken_links(links, ROOT) == ["no.md", "README.md#no", "#no", "no.md#a"]
    there = "`client/gate/` server/run/stages.py BUNDLE/docs/README.md `step.py` common/seeding.derive_seed"
    assert find_absent_files(f"{there} client/nowhere.py docs/no/ `no.py`") == [
        "client/nowhere.py",
        "docs/no/",
        "no.py",
    ]
    named = "prostafed-sim run a.toml, prostafed-site manifest init, prostafed-sim go, prostafed-site manifest go"
    assert find_absent_commands(named) == ["prostafed-sim go", "prostafed-site manifest go"]
