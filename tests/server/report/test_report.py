import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.pages.page import format_number
from prostafed.server.report import write_report
from prostafed.server.report.page import format_duration

EVIL = "<script>alert(1)</script>$x^"
VOID = {"meta", "img", "br", "path", "use", "rect"}


class Reader(HTMLParser):
    """Collects tags, text, what would be fetched, and whether elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def page(run_library: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the default run, written once."""
    run = shutil.copytree(run_library(), tmp_path_factory.mktemp("report") / "run")
    assert write_report(run) == run / "report.html"
    return run / "report.html"


def test_a_report_shows_every_arm_site_stage_and_where_it_comes_from(page: Path) -> None:
    text = read(page).text
    for word in (
        *("Federated", "Local only", "Pooled", "alpha", "beta", "gamma", "Mean over sites", "Worst site"),
        *("Stage 1: pretraining (conditional)", "Stage 2: fine-tuning (lesion)", "PI-CAI score", "AUROC"),
        *("Generated images", "GENERATED IMAGES", "generated images", "Siemens, 3 T, slice thickness 3 mm"),
        *(
            "5c1d" * 16,
            "ab" * 32,
            "75460d8c0ffee",
            "torch 2.13.0",
            "prostafed-sim run study.toml --out run",
            "12 min 34 s",
        ),
    ):
        assert word in text, word
    assert "Incomplete run" not in text
    assert "NOT aggregated" not in text


def test_nothing_is_asked_of_the_network(page: Path) -> None:
    reader = read(page)
    assert reader.fetched
    assert all(target.startswith(("data:", "#")) for target in reader.fetched)
    text = page.read_text()
    assert re.findall(r"url\((?!#)[^)]*\)|@import|https?://", text) == []
    assert not reader.tags & {"script", "link", "iframe", "object"}


def test_plots_lie_beside_their_numbers(page: Path) -> None:
    plots = page.parent / "plots"
    assert sorted(path.name for path in plots.iterdir()) == [
        f"{name}.{kind}" for name in ("curves", "loss", "results", "validation") for kind in ("csv", "svg")
    ]
    assert (plots / "results.csv").read_text().startswith("stage,task,metric,arm,scope,site,value,low,high")
    assert (plots / "loss.svg").read_text().startswith("<?xml")


def test_the_same_run_gives_the_same_report(small_run: Path) -> None:
    first = write_report(small_run).read_bytes()
    assert write_report(small_run).read_bytes() == first


def test_names_are_text_and_never_markup(make_run: Callable[..., Path]) -> None:
    run = make_run(sites=(EVIL, "beta"), arms=("federated", "local"), examples=1)
    lines = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    lines[0]["rejections"] = [{"site": EVIL, "code": EVIL, "text": EVIL}]
    (run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(run)
    reader = read(page)
    assert "script" not in reader.tags
    assert EVIL in reader.text
    assert "<script" not in page.read_text()


@pytest.fixture
def small_run(make_run: Callable[..., Path]) -> Path:
    return make_run(sites=("alpha", "beta"), arms=("federated", "local"), examples=1)


SIMULATION_ONLY = ("predictions.jsonl", "federation.json", "examples")


@pytest.mark.parametrize(
    "missing",
    [
        ("run.json",),
        ("rounds.jsonl", "metrics.csv"),
        SIMULATION_ONLY,
        ("rounds.jsonl", "metrics.csv", "run.json", *SIMULATION_ONLY),
    ],
)
def test_what_is_missing_is_left_out(small_run: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        path = small_run / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()
    text = read(write_report(small_run)).text
    assert ("Example slices" in text) == ("examples" not in missing)
    assert ("Patient" in text) == (set(missing) < {"run.json", "rounds.jsonl", "metrics.csv", *SIMULATION_ONLY})
    if "federation.json" in missing:
        assert "stay with them" in text
    if len(missing) > 3:
        assert "no test result yet" in text
        assert "No round has been recorded yet" in text


def test_an_interrupted_run_says_how_far_it_came(small_run: Path) -> None:
    lines = [json.loads(line) for line in (small_run / "rounds.jsonl").read_text().splitlines()]
    lines[4] |= {
        "aggregated": False,
        "replies": ["alpha"],
        "rejections": [{"site": "beta", "code": "DEADLINE", "text": "x"}],
    }
    (small_run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:5]))
    (small_run / "run.json").write_text(json.dumps({"state": "interrupted"}))
    text = read(write_report(small_run)).text
    assert "This run is interrupted" in text
    assert "federated, stage 2: fine-tuning (lesion): 1 of 4" in text
    assert "local only, stage 1: pretraining (conditional): 0 of 6" in text
    assert "1 round was not aggregated" in text
    assert "NOT AGGREGATED: this round changed nothing" in text
    assert "beta: DEADLINE (x)" in text


def test_generated_sites_among_real_ones_are_named(small_run: Path) -> None:
    sites = [
        {"name": "alpha", "source": "phantom"},
        {"name": "beta", "source": "picai"},
        {"name": "gamma", "source": "picai"},
    ]
    (small_run / "federation.json").write_text(json.dumps({"sites": sites}))
    text = read(write_report(small_run)).text
    assert "The cases of alpha were made by a computer model" in text
    assert "on generated images" not in text


def test_real_images_carry_no_notice(small_run: Path) -> None:
    sites = [{"name": name, "source": "picai", "title": "PI-CAI"} for name in ("alpha", "beta")]
    (small_run / "federation.json").write_text(json.dumps({"sites": sites}))
    path = small_run / "examples" / "0.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "source": np.array("picai")})
    text = read(write_report(small_run)).text
    assert "enerated images" not in text
    assert "REAL IMAGES, PI-CAI" in text
    assert "real images, PI-CAI" in text


def test_a_run_that_does_not_tell_the_title_of_its_sets_names_their_source(small_run: Path) -> None:
    (small_run / "federation.json").write_text(json.dumps({"sites": [{"name": "alpha", "source": "picai"}]}))
    text = read(write_report(small_run)).text
    assert "PICAI case alpha-0" in text


def test_sites_that_share_patients_are_named_above_the_numbers(small_run: Path) -> None:
    record = json.loads((small_run / "run.json").read_text())
    sentence = "Sites 'a' and 'b' share 3 patients: 3 known by id, 0 more by image."
    (small_run / "run.json").write_text(json.dumps(record | {"overlap": [sentence]}))
    text = read(write_report(small_run)).text
    assert sentence in text
    assert "Sites share patients" in text


def test_a_damaged_example_is_left_out_and_named(small_run: Path) -> None:
    (small_run / "examples" / "1.npz").write_bytes(b"PK nothing")
    text = read(write_report(small_run)).text
    assert "These examples could not be read: 1.npz." in text
    assert "case alpha-0" in text


def test_few_test_patients_are_a_notice(make_run: Callable[..., Path]) -> None:
    run = make_run(sites=("alpha", "beta"), arms=("federated", "local"), examples=0, patients=12)
    text = read(write_report(run)).text
    assert "Few test patients" in text
    assert "alpha 4 with and 8 without" in text
    assert "too few patients to tell" in text


def test_what_is_no_run_folder_is_said_so_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_loads_no_plotting() -> None:
    program = (
        "import sys, prostafed.server.report; print([m for m in ('matplotlib', 'torch', 'jinja2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (4.25, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (59.99, "60.0 s")]
)
def test_durations_read_easily(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


def test_numbers_keep_their_digits() -> None:
    assert (format_number(0.5), format_number(None), format_number(12345.67, 1)) == ("0.50", "–", "12,345.7")
