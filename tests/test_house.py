"""The measures of the house, on a tree small enough to count by hand."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests import house
from tests.house import Figure, find_chain, find_circles, find_uses, measure, measure_revision, read_modules

FILES = {
    "client/__init__.py": '"""The site."""\n',
    "client/app.py": """
        from flwr.clientapp import ClientApp
        from prostafed.client.training.loop import Plan, train

        app = ClientApp(train, Plan())
    """,
    "client/training/__init__.py": "",
    "client/training/loop.py": '''
        """Training."""

        from dataclasses import dataclass
        from typing import TYPE_CHECKING

        from prostafed.client.training.step import Step

        if TYPE_CHECKING:
            from prostafed.server.app import Updates


        @dataclass
        class Plan:
            """Two
            lines.
            """


        def train(study, number, a, b, c, *, d, e):
            # a comment
            stage = study.stage[number - 1]
            if isinstance(stage, (Pretrain, str)):
                return Step()
            match stage:
                case Finetune():
                    return None
    ''',
    "client/training/step.py": """
        class Step:
            def __call__(self, loss, a, b, c, d, e):
                loss.backward()
    """,
    "common/tasks/__init__.py": """
        from prostafed.common.tasks.task import Entry, LesionParameters

        TASKS: dict[str, Entry] = {
            "lesion": Entry("lesion", LesionParameters),
            "pi-rads": Entry("scores", "lesion of 4"),
        }
    """,
    "common/tasks/lesion.py": "def build():\n    from prostafed.client.training import step\n",
    "common/tasks/scores.py": "",
    "common/tasks/task.py": "class Entry: ...\n\n\nclass LesionParameters: ...\n",
    "server/app.py": """
        from flwr.serverapp import Grid, ServerApp
        from prostafed.server.updates import Updates, run

        app = ServerApp(run)
        LABELS = ["lesion", "pi-rads", f"lesion{app}"]
    """,
    "server/updates.py": '''
        """Says "lesion" in words only."""


        class Updates:
            def run(self, grid, rule):
                rule.init()
                rule.add(1, 2)
                grid.pull_messages([])
                rule.finish(1)


        class Step: ...
    ''',
}
TRAINING, STEP = "client/training/loop.py", "client/training/step.py"


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        lines = text.splitlines()
        width = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line[width:]}\n" for line in lines).strip("\n") + "\n" * bool(lines))
    return root


def by_name(figures: Sequence[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path, FILES)


def test_sizes(tree: Path) -> None:
    found = by_name(measure(tree))
    assert found["modules"].values == {"all": 11}
    # in the order of FILES: 1, 4, 0, 26, 3, 6, 2, 0, 4, 5 and 12 lines; 0, 3, 0, 14, 3, 5, 2, 0, 2, 4 and 7 of code
    assert found["lines"].values == {"all": 63, "code": 40, "median": 4}
    assert found["longest function"].values == {"lines": 8, "of": f"{TRAINING}:train"}
    assert found["wide functions"] == Figure("wide functions", {"all": 1, "client": 1}, [f"{TRAINING}:train 7"])
    # Plan, train; Step; build; Entry, LesionParameters; Updates, its run, Step
    assert found["docstrings"].values == {"public": 9, "with": 1}
    assert found["loose files"].counted == ["client/app.py", "server/app.py", "server/updates.py"]


def test_rooms(tree: Path) -> None:
    found = by_name(measure(tree))
    assert found["rooms"].counted == [
        "client", "client/app", "client/training", "common/tasks", "server/app", "server/updates",
    ]  # fmt: skip
    assert found["doors"] == Figure("doors", {"all": 3, "of folders": 2}, [TRAINING, STEP, "server/updates.py"])
    assert found["arrows"].counted == [
        "client/app -> client/training", "common/tasks -> client/training", "server/app -> server/updates",
    ]  # fmt: skip
    assert found["circles"].values == {"all": 0}
    write_tree(tree, {STEP: "import prostafed.client.app\n"})
    found = by_name(measure(tree))
    assert found["circles"] == Figure("circles", {"all": 1}, ["client/app, client/training"])
    assert found["doors"].counted == ["client/app.py", TRAINING, STEP, "server/updates.py"]


def test_circles() -> None:
    assert find_circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")}) == [
        ["a", "b", "c"],
        ["d", "e"],
    ]


def test_hops(tree: Path) -> None:
    assert by_name(measure(tree))["hops"] == Figure(
        "hops",
        {"all": 5},
        [
            "client.app > client.training.loop > client.training.step",
            "server.app > server.updates",
            "server.app > server.updates",
        ],
    )
    # of the loop only the record is used now, and the step in an annotation alone
    files = {
        "client/app.py": """
            from flwr.clientapp import ClientApp
            from prostafed.client.training.loop import Plan
            from prostafed.client.training.step import Step

            def answer(step: Step) -> Step:
                return ClientApp(Plan())
        """
    }
    assert by_name(measure(write_tree(tree, files)))["hops"].values == {"all": "an end was not found"}


def test_the_shortest_chain_is_taken() -> None:
    imports = {"a": {"b", "c"}, "b": {"d"}, "c": {"e"}, "d": {"e"}, "e": set[str]()}
    assert find_chain({"a"}, {"e"}, imports) == ["a", "c", "e"]
    assert find_chain({"b"}, {"c"}, imports) == []


def test_stages(tree: Path) -> None:
    found = by_name(measure(tree))
    assert found["stage lookups"].counted == [f"{TRAINING}:21"]
    assert found["stage forks"] == Figure("stage forks", {"all": 2, "client": 2}, [f"{TRAINING}:22", f"{TRAINING}:25"])


def test_entries_of_a_literal_table(tree: Path) -> None:
    found = by_name(measure(tree))
    own = "common/tasks/__init__.py"
    assert find_uses("TASKS", list(read_modules(tree))) == {
        "lesion": [own, "common/tasks/lesion.py", "common/tasks/task.py", "server/app.py"],
        "pi-rads": [own, "common/tasks/scores.py", "server/app.py"],
    }
    values = {"entries": 2, "median": 3.5, "most": 4, "of": "lesion"}
    assert found["files per entry of TASKS"].values == values
    assert found["files per entry of METHODS"].values == {"entries": 0, "median": 0, "most": 0, "of": ""}


@pytest.mark.parametrize(
    ("table", "entries"),
    [
        # records of the modules, by the name each has
        ("{each.name: each for each in (lesion.TASK, SCORES, HERE)}", {"lesion", "pi-rads", "here"}),
        ("{lesion.TASK.name: lesion.TASK}", {"lesion"}),
        # nothing can be read off: the modules beside the table
        ("collect()", {"lesion", "scores", "task"}),
    ],
)
def test_entries_of_a_table_built_from_records(tree: Path, table: str, entries: set[str]) -> None:
    head = "from prostafed.common.tasks import lesion\nfrom prostafed.common.tasks.scores import PIRADS as SCORES\n"
    files = {
        "common/tasks/__init__.py": f"{head}HERE = Task('here')\nTASKS = {table}\n",
        "common/tasks/lesion.py": "TASK = Task(build, name='lesion')\n",
        "common/tasks/scores.py": "PIRADS = Task('pi-rads')\n",
    }
    uses = find_uses("TASKS", list(read_modules(write_tree(tree, files))))
    assert uses.keys() == entries
    assert uses["lesion"] == ["common/tasks/lesion.py", "server/app.py"]


def test_a_class_that_is_defined_twice(tree: Path) -> None:
    assert by_name(measure(tree))["twice"].counted == [f"Step: {STEP}, server/updates.py"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_revision_is_measured_as_it_was(tree: Path) -> None:
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    before = measure(tree)
    (tree / "server" / "more.py").touch()
    assert measure_revision(tree, "HEAD") == before != measure(tree)


def test_the_command_prints_a_table_or_json(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["house.py", "--root", str(tree), "--json"])
    house.main()
    assert json.loads(capsys.readouterr().out)["stage forks"]["client"] == 2
    monkeypatch.setattr(sys, "argv", ["house.py", "--root", str(tree), "--names"])
    house.main()
    assert "    client/app -> client/training\n" in capsys.readouterr().out
