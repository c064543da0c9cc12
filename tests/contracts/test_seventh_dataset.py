"""A set that only a test knows goes the whole way: one file, one line of the table, and nothing else names it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.imaging.cases import Grid
from prostafed.common.study import parse_study
from prostafed.simulations.cli import app
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.dataset import Dataset, import_cases, list_studies
from prostafed.simulations.datasets.study import Selection
from prostafed.simulations.federation.federation_file import read_federation
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation
from tests.simulations.datasets.layouts import GRID, SEQUENCES, SIZE, make_masks, save

PATIENTS = 16
STUDY = parse_study(
    json.dumps(
        {
            "name": "tiny",
            "data": {"size": [4, 16, 16], "spacing_mm": [3.0, 1.0, 1.0], "test_fraction": 0.3},
            "model": {"width": 4, "resolutions": 2},
            "stage": [
                {"kind": "pretrain", "method": "restore", "rounds": 1, "batch_size": 2},
                {"kind": "finetune", "task": "lesion", "rounds": 1, "batch_size": 2},
            ],
        }
    )
)


@pytest.fixture(autouse=True)
def _line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "seventh", "tests.entries.seventh_set")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Every second patient of North has cancer, and of South; their noise makes them other patients."""
    rows = ["patient,center,cancer"]
    for number in range(PATIENTS):
        cancer, folder = number // 2 % 2 == 0, tmp_path / "data" / f"p{number:02d}"
        rng = np.random.default_rng(number)
        for name in SEQUENCES:
            save(folder / f"{name}.nii.gz", rng.normal(500, 100, SIZE).astype(np.float32))
        if cancer:
            save(folder / "lesion.nii.gz", make_masks()["lesion"].astype(np.uint8))
        rows.append(f"{folder.name},{('North', 'South')[number % 2]},{'yes' if cancer else 'no'}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")  # in no order
    return tmp_path / "data"


@pytest.fixture
def entry() -> Dataset:
    return load_dataset("seventh")


def write_federation(folder: Path, centers: tuple[str, ...] = ("North", "South")) -> Path:
    tables = (
        f'[[site]]\nname = "{center.lower()}"\nsource = "seventh"\nroot = "data"\ncenter = "{center}"\n'
        for center in centers
    )
    (folder / "federation.toml").write_text("\n".join(tables))
    return folder / "federation.toml"


def test_it_is_trained_on_and_the_report_shows_its_title(root: Path, tmp_path: Path) -> None:
    simulation = Simulation(STUDY, read_federation(write_federation(tmp_path)), tmp_path / "run", tmp_path / "cache")
    report = run_simulation(simulation, resume=False, watchers=Watchers()).read_text()
    assert "real images, Seventh Set of Prostates" in report
    assert "REAL IMAGES, SEVENTH SET OF PROSTATES" in report
    sites = json.loads((tmp_path / "run" / "federation.json").read_text())["sites"]
    assert [(site["source"], site["cases"]) for site in sites] == [("seventh", PATIENTS // 2)] * 2


def test_its_facts_are_told_and_its_folder_is_checked(root: Path) -> None:
    told = CliRunner().invoke(app, ["datasets", "seventh"]).output
    assert "seventh: Seventh Set of Prostates" in told
    assert "example.org/seventh.zip" in told
    checked = CliRunner().invoke(app, ["datasets", "seventh", "--root", str(root), "--json"]).output
    counts = {"patients": PATIENTS // 2, "studies": PATIENTS // 2, "with_masks": PATIENTS // 4}
    assert json.loads(checked)["counts"] == {"North": counts, "South": counts}


def test_its_cases_come_by_id_and_say_where_they_are_from(root: Path, entry: Dataset) -> None:
    records = [record for record, _, _ in import_cases(entry, Selection(root, GRID, ("t2w",)))]
    assert [record.case_id for record in records] == [f"p{number:02d}" for number in range(PATIENTS)]
    assert {(record.source, *record.sequences.items()) for record in records} == {
        ("seventh", ("t2w", "as distributed"))
    }


def test_a_study_that_cannot_be_used_is_left_out(root: Path, entry: Dataset) -> None:
    (root / "p03" / "adc.nii.gz").unlink()
    errors: list[DataError] = []
    assert len(list(import_cases(entry, Selection(root, GRID, SEQUENCES), errors.append))) == PATIENTS - 1
    expected = "NO_ADC case=p03: expected p03/adc.nii.gz, found no such file; unpack seventh.zip again."
    assert [str(error) for error in errors] == [expected]
    lenient = Selection(root, Grid(GRID.spacing_mm, GRID.size), SEQUENCES, allow_missing=("adc",))
    assert len(list(import_cases(entry, lenient))) == PATIENTS


class TestWhatDoesNotFit:
    """Each is refused with a sentence that names the set or the folder."""

    def test_an_entry_without_a_title(self, entry: Dataset) -> None:
        with pytest.raises(ConfigurationError, match=r"^dataset 'seventh': expected its title, found none\. Write it"):
            replace(entry, title="")

    def test_a_line_that_leads_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(DATASETS, "seventh", "tests.entries.eighth_set")
        with pytest.raises(ConfigurationError, match=r"^dataset 'seventh': expected DATASET .* No module named"):
            load_dataset("seventh")

    def test_a_center_that_the_entry_does_not_name(self, root: Path, entry: Dataset) -> None:
        with pytest.raises(DataError, match=r"expected studies of North in Seventh .*, found p01 of 'South'\. Correct"):
            list_studies(replace(entry, centers=("North",)), root)

    def test_a_federation_file_that_asks_for_another_center_or_fold(self, root: Path, tmp_path: Path) -> None:
        path = write_federation(tmp_path, ("Nord",))
        with pytest.raises(ConfigurationError, match=r"Seventh Set .* has no center 'Nord'; did you mean 'North'\?"):
            read_federation(path)
        path.write_text(path.read_text().replace('center = "Nord"', "fold = 0"))
        with pytest.raises(ConfigurationError, match="Seventh Set of Prostates has no official split"):
            read_federation(path)

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            (None, r"FileNotFoundError: .*labels\.csv"),
            ("number,center\n1,North\n", "KeyError: 'patient'"),
            ("patient,center,cancer\n\N{SNOWMAN},North,no\n", "UnicodeDecodeError"),
        ],
    )
    def test_a_lister_that_raises(self, root: Path, entry: Dataset, table: str | None, said: str) -> None:
        (root / "labels.csv").unlink()
        if table:
            (root / "labels.csv").write_bytes(table.encode("utf-16" if "\N{SNOWMAN}" in table else "utf-8"))
        with pytest.raises(DataError, match=rf"expected Seventh .* cannot be listed \({said}.*datasets seventh`\.$"):
            list_studies(entry, root)

    def test_a_study_twice(self, root: Path, entry: Dataset) -> None:
        with (root / "labels.csv").open("a") as file:
            file.write("p01,South,no\n")
        with pytest.raises(DataError, match=r"expected every study once, found p01 again\. Keep one"):
            list_studies(entry, root)
