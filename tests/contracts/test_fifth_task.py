"""A task of a user's own, one file and one line, from a run to what a radiologist reads: never taken for csPCa."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import pytest

from prostafed.client.commands.predict import show_predictions
from prostafed.client.predict.run import PredictRequest, predict_site
from prostafed.common.bundle.record import CARD, METADATA, read_bundle
from prostafed.common.study import parse_study
from prostafed.common.tasks import TASKS, TaskEntry
from prostafed.server.export import export_run
from prostafed.server.report import summary_table
from prostafed.simulations.federation.federation_file import Federation, PhantomSite
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation
from tests.client.ingest.tiny_study import GRID, make_study, save_study

SITES = ("east", "north", "south")
STUDY = json.dumps(
    {
        "name": "own",
        "data": {
            "size": GRID.size, "spacing_mm": GRID.spacing_mm, "validation_fraction": 0.2, "test_fraction": 0.3,
        },
        "model": {"width": 4, "resolutions": 2},
        "stage": [{"kind": "finetune", "task": "volume", "rounds": 1, "batch_size": 4, "share": ["encoder", "heads"]}],
        "arms": {"compare": ["local"]},
    }
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    run: Path
    page: str
    bundle: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The run of a study of the fifth task at three generated hospitals, its report and its bundle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "volume", TaskEntry("tests.entries.volume", "the volume of the prostate, as reported"))
        folder = tmp_path_factory.mktemp("own")
        sites = tuple(PhantomSite(source="phantom", name=name, cases=8, minimum_cell=1) for name in SITES)
        simulation = Simulation(parse_study(STUDY), Federation(site=sites), folder / "run", folder / "cache")
        report = run_simulation(simulation, resume=False, watchers=Watchers())
        export_run(folder / "run")
        yield Made(folder / "run", report.read_text(), folder / "run" / "bundle")


def test_the_run_tells_its_measure_and_nothing_of_cancer(made: Made) -> None:
    rows = summary_table(made.run)
    assert {row["metric"] for row in rows} == {"volume_error_ml"}
    assert {row["site"] for row in rows if row["scope"] == "site"} == set(SITES)
    assert all(row["positives"] is None and row["value"] > 0 for row in rows)
    told = (made.run / "metrics.csv").read_text()
    assert "federated,1,1,north,test,volume_error_ml," in told
    assert not any(name in told for name in ("auroc", "brier", "positives", "histogram"))


def test_the_worst_site_and_the_best_arm_are_judged_by_its_direction(made: Made) -> None:
    rows = [row for row in summary_table(made.run) if row["arm"] == "federated"]
    (worst,) = [row["value"] for row in rows if row["scope"] == "worst"]
    assert worst == max(row["value"] for row in rows if row["scope"] == "site")
    means = {row["arm"]: row["value"] for row in summary_table(made.run) if row["scope"] == "mean"}
    best = {"federated": "Federated", "local": "Local only"}[min(means, key=lambda arm: means[arm])]
    assert f"{best} training scored lowest on generated images, with a mean Volume error over 3 sites of" in made.page


def test_the_report_has_its_metric_and_unit_and_no_cspca(made: Made) -> None:
    start = made.page.index("<h2>Results on test patients</h2>")
    results = made.page[start : made.page.index("<h2>Learning curves</h2>")]
    assert "<b>Volume error (mL)</b> – mean distance from the report" in results
    assert "Volume error (mL) on test patients (0 is perfect)" in results
    header = made.page[made.page.index("<header>") : made.page.index("</header>")]
    assert " mL" in header
    for part in (results, header):
        assert "csPCa" not in part
    assert "AUROC" not in made.page
    assert "detection map" not in made.page
    assert "roc" not in {path.stem for path in (made.run / "plots").iterdir()}


def test_bundle_and_card_say_what_it_is(made: Made) -> None:
    card, metadata = (made.bundle / CARD).read_text(), json.loads((made.bundle / METADATA).read_text())
    assert "One number, the volume of the prostate in mL" in card
    assert "learnt from the volume of the prostate, as reported" in card
    assert "| Volume error (mL) | north |" in card
    assert metadata["task"] == "Measures the volume of the prostate"
    assert metadata["network_data_format"]["outputs"]["pred"]["type"] == "tuples"
    for text in (card, json.dumps(metadata)):
        assert not any(word in text for word in ("csPCa", "AUROC", "cancer", "ISUP", "confidence"))


def test_a_radiologist_reads_a_volume_and_nothing_of_cancer(made: Made, tmp_path: Path) -> None:
    save_study(make_study(patient="Doe^Jane"), tmp_path / "dicom" / "Doe^Jane")
    request = PredictRequest(
        tmp_path / "dicom", tmp_path / "out", read_bundle(made.bundle), b"s" * 32, "cpu", workers=1
    )
    found = predict_site(request)
    (entry,) = found["studies"]
    assert entry["files"] == ["predict.json", "preview.png", "report.dcm"], entry["findings"]
    (quantity,) = entry["quantities"]
    assert (quantity["label"], quantity["unit"], entry["score"]) == ("Prostate volume", "mL", None)
    assert quantity["value"] > 1, "or it could be taken for a score"
    assert f"Prostate volume {quantity['value']:.1f} mL" in show_predictions(found, tmp_path)
    report = hd.sr.srread(tmp_path / "out" / entry["study"] / "report.dcm")
    (case,) = report.content.get_image_measurement_groups()
    (said,) = case.get_measurements()
    assert (said.name.meaning, said.unit.value) == ("Prostate volume", "mL")
    assert said.value == pytest.approx(quantity["value"], rel=1e-5)
    for text in (str(report), json.dumps(found), show_predictions(found, tmp_path)):
        assert not any(word in text.lower() for word in ("cspca", "cancer", "lesion candidate", "pi-rads"))
