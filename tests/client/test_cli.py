"""The commands of a hospital as typed: exit codes, one JSON object on stdout, a sentence per mistake."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.cli import COMMANDS, manifest
from prostafed.client.gate import ledger, opt_out
from prostafed.client.ingest import index as index_room
from prostafed.client.ingest.index import IndexRequest
from prostafed.client.site.identity import make_pseudonym, read_secret
from prostafed.common.imaging.cases import Grid
from tests import programs
from tests.programs import Done
from tests.simulations.dicom.calibration_study import write_calibration_study

PROGRAM = Path(sys.executable).parent / "prostafed-site"


Call = Callable[..., Done]


@pytest.fixture
def call() -> Call:
    """Runs a command in this process."""
    return partial(programs.call, "prostafed-site")


@pytest.fixture
def north(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new site's folder, which is also the working folder."""
    assert call("init", tmp_path / "north", "--name", "north").code == 0
    monkeypatch.chdir(tmp_path / "north")
    return tmp_path / "north"


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One generated Siemens study, in a folder that is called as a patient may be."""
    folder = tmp_path_factory.mktemp("pacs") / "export"
    write_calibration_study(folder / "GRYFFINDOR^HERMIONE", "siemens")
    return folder


class TestHelp:
    def test_every_command_says_what_it_does_and_takes_json(self, call):
        for _, commands in COMMANDS:
            for command in commands:
                shown = call(command.__name__.replace("_", "-"), "--help")
                assert shown.code == 0
                assert "--json" in shown.out
        groups = {"manifest": "init check import", "audit": "verify head", "outbox": "show release decline"}
        for group, names in groups.items():
            for name in names.split():
                assert "--json" in call(group, name, "--help").out
        assert len(manifest.app.registered_commands) == 3

    def test_help_loads_nothing_heavy(self):
        names = ("torch", "SimpleITK", "pydicom", "matplotlib", "flwr", "monai")
        text = f"import sys; from prostafed.client import cli; print([n for n in {names} if n in sys.modules])"
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_program_is_installed(self):
        done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
        assert "Take part in a federation as a hospital" in done.stdout

    def test_wrong_usage_is_2(self, call, north):
        assert call("index", "--nonsense").code == 2
        assert call("nonsense").code == 2
        assert call("init").code == 2


class TestInit:
    def test_json(self, call, tmp_path):
        said = call("init", tmp_path / "x", "--name", "x", "--json").json
        assert Path(said["public_key"]).name == "x.key.pub"
        again = call("init", tmp_path / "x", "--name", "x", "--json")
        assert (again.code, again.json["exit_code"]) == (2, 2)


class TestManifest:
    def test_from_the_export_to_a_checked_manifest(self, call, north, export):
        assert call("manifest", "init", "--dicom", export, "--json").json == {
            "manifest": str(north / "manifest"),
            "studies": 1,
            "added": 1,
        }
        assert call("manifest", "init", "--dicom", export, "--json").json["added"] == 0
        done = call("manifest", "check")
        assert (done.code, done.out) == (0, "1 studies: 0 errors, 0 warnings.\n")

    def test_mistakes_are_told_whole_and_end_with_1(self, call, north):
        (north / "manifest" / "studies.csv").write_text("case_id,psa,psad,prostate_volume\na,<0.1,,\nb,5,0.9,50\n")
        done = call("manifest", "check")
        assert done.code == 1
        assert done.out.splitlines() == [
            "error: studies.csv: line 2, column psa: expected PSA in ng/ml with a decimal point, 0 to 5000, or blank, "
            "found '<0.1'. Give the number alone, or leave it blank.",
            "warning: studies.csv: line 3, column psad: expected psa / prostate_volume within 0.03, found a difference "
            "of 0.80; check the three values.",
            "2 studies: 1 errors, 1 warnings.",
        ]
        said = call("manifest", "check", "--json")
        assert (said.code, said.json["errors"]) == (1, 1)
        assert [each["code"] for each in said.json["findings"]] == ["LABEL_RANGE", "PSAD"]

    def test_import(self, call, north, tmp_path):
        sheet = tmp_path / "marksheet.csv"
        sheet.write_text("patient_id,study_id,case_ISUP,case_csPCa,center\n1,2,3,YES,RUMC\n")
        assert call("manifest", "import", sheet).code == 0
        assert call("manifest", "check", "--json").json["studies"] == 1
        assert call("manifest", "import", sheet).code == 2
        wrong = call("manifest", "import", sheet, "--from", "picay", "--json")
        assert "did you mean 'picai'" in wrong.json["error"]
        assert wrong.code == 2

    def test_a_missing_export_is_named(self, call, north):
        done = call("manifest", "init")
        assert done.code == 2
        assert "Name the folder of the PACS export" in done.err


class TestIndex:
    def test_what_is_asked_for(self, call, north, export, tmp_path, monkeypatch):
        asked: list[IndexRequest] = []

        def index_site(request: IndexRequest, on_study: object) -> dict[str, Any]:
            asked.append(request)
            finding = {"code": "NO_T2", "severity": "F", "text": "NO_T2 case=a: expected one, found none; export it."}
            warning = {"code": "LOSSY", "severity": "W", "text": "LOSSY case=b: expected none, found it; accept it."}
            studies = [
                {"study": "a", "status": "refused", "findings": [finding]},
                {"study": "b", "status": "warning", "findings": [warning]},
            ]
            return {"studies": studies, "findings": [], "counts": {}}

        monkeypatch.setattr(index_room, "index_site", index_site)
        study = tmp_path / "study.toml"
        study.write_text(
            'name = "s"\n[data]\nsize = [4, 8, 8]\nspacing_mm = [3.0, 1.0, 1.0]\nallow_missing = ["hbv"]\n'
            '[[stage]]\nkind = "finetune"\ntask = "classify"\nrounds = 1\n'
        )
        done = call("index", "--dicom", export, "--out", "elsewhere", "--study", study, "--dry-run", "--workers", 2)
        assert done.code == 1
        assert done.out.splitlines() == [
            "LOSSY case=b: expected none, found it; accept it.",
            "NO_T2 case=a: expected one, found none; export it.",
            "2 studies: 1 usable (1 of them with warnings), 1 refused.",
            "Which folder holds a refused study: prostafed-site find CASE.",
            "Nothing was written (--dry-run).",
        ]
        (request,) = asked
        assert (request.grid, request.allow_missing) == (Grid((3.0, 1.0, 1.0), (4, 8, 8)), ("hbv",))
        assert (request.out, request.dry_run, request.workers) == (Path("elsewhere"), True, 2)
        assert (request.center, len(request.secret)) == ("north", 32)
        assert request.manifest is not None
        assert call("index", "--dicom", export, "--json").json["studies"][0]["study"] == "a"
        assert asked[1].out == north / "cases"

    def test_who_objects_since_the_last_time_is_said_and_to_what_he_contributed(self, call, north, export, monkeypatch):
        ledger.begin(north, ledger.Use("ab" * 32, "demo", 1, 2, "", {}), ["0123456789abcdef"], ledger.Limit(0.0, 1e-5))

        def index_site(request: IndexRequest, on_study: object) -> dict[str, Any]:
            opt_out.keep_opted_out(north / "memory", {"0123456789abcdef"}, set())
            return {"studies": [], "findings": [], "counts": {}}

        monkeypatch.setattr(index_room, "index_site", index_site)
        said = call("index", "--dicom", export).out
        assert "1 patient objects since the last time" in said
        assert (
            "0123456789abcdef contributed to\n    study abababababab, run demo, stage 1: trained on in rounds 2;"
            in said
        )
        assert "cannot be unlearnt" in said
        assert call("index", "--dicom", export, "--json").json["withdrawn"] == []

    def test_an_export_without_dicom_ends_with_1(self, call, north, tmp_path):
        (tmp_path / "empty").mkdir()
        done = call("index", "--dicom", tmp_path / "empty")
        assert (done.code, done.out.split()[0]) == (1, "NO_DICOM")
        assert "0 studies: 0 usable" in done.out
        assert call("index", "--dicom", tmp_path / "nowhere").code == 2

    def test_without_a_manifest_it_says_so(self, call, north, export, monkeypatch):
        monkeypatch.setattr(index_room, "index_site", lambda *_: {"studies": [], "findings": [], "counts": {}})
        (north / "manifest" / "studies.csv").unlink()
        done = call("index", "--dicom", export)
        assert (done.code, "No manifest: cases get no labels" in done.err) == (0, True)

    def test_a_secret_others_can_read_stops_it(self, call, north, export):
        (north / "site.secret").chmod(0o644)
        done = call("index", "--dicom", export, "--json")
        assert (done.code, "chmod 600" in done.json["error"]) == (2, True)


def test_from_an_export_to_a_report(call, north, export):
    """The way a hospital goes, on one generated study; nothing that is written names its folder."""
    call("manifest", "init", "--dicom", export)
    done = call("index", "--dicom", export, "--json")
    assert done.code == 0, done.out
    (study,) = done.json["studies"]
    assert set(study["sequences"]) == {"t2w", "adc", "hbv"}
    report = call("qc", "--out", "qc.html", "--json").json
    assert report["counts"]["refused"] == 0
    ready = call("check", "--json")
    assert ready.code == 1
    assert [each["check"] for each in ready.json["results"] if not each["ok"]] == ["cases", "cases", "coordinator"]
    found = call("find", study["study"], "--dicom", export, "--json").json
    assert found["folder"] == str(export / "GRYFFINDOR^HERMIONE")
    assert {each["kind"] for each in found["series"]} >= {"t2w", "adc", "dwi"}
    assert "GRYFFINDOR" in call("find", study["study"], "--dicom", export).out
    assert call("find", "0123", "--dicom", export).code == 2
    for path in north.rglob("*"):
        if path.is_file() and path.parent.name != "manifest":  # dicom_dir of the manifest names it, for its people
            assert b"GRYFFINDOR" not in path.read_bytes(), path.name
            assert str(export).encode() not in path.read_bytes(), path.name


def test_find_names_the_line_of_a_case_that_has_image_files(call, north):
    (north / "manifest" / "studies.csv").write_text("case_id,t2w\na,images/a.mha\nb,images/b.mha\n")
    case_id = make_pseudonym(read_secret(north / "site.secret"), "case", "b")
    assert call("find", case_id, "--json").json == {"case": case_id, "row": "b"}
    assert "The line of case_id b in" in call("find", case_id).out


class TestPull:
    def test_what_is_asked_for_and_what_is_left(self, call, north, monkeypatch, tmp_path):
        pull_room = pytest.importorskip("prostafed.client.ingest.pacs.pull")
        asked: list[Any] = []

        def pull(request: Any, on_study: object) -> dict[str, Any]:
            asked.append(request)
            studies = [{"study": "a", "status": "partial"}, {"study": "b", "status": "complete"}]
            return {"studies": studies, "counts": {"studies": 2, "found": 9, "fetched": 5, "present": 3}}

        monkeypatch.setattr(pull_room, "pull", pull)
        listed = tmp_path / "list.csv"
        listed.write_text("accession_number\n123\n")
        where = ("--out", "x", "--host", "pacs", "--port", 11112, "--ae-title", "ARCHIVE")
        done = call("pull", *where, "--since", "2024-01-31", "--list", listed, "--move")
        assert done.code == 1
        assert done.out.splitlines() == [
            "2 studies with 9 images: 5 fetched, 3 were here already.",
            "Not complete: a. Call again: only what is missing is fetched.",
        ]
        (request,) = asked
        assert (request.server.host, request.server.port, request.server.ae_title) == ("pacs", 11112, "ARCHIVE")
        assert (str(request.wanted.since), request.wanted.until) == ("2024-01-31", None)
        assert request.wanted.listed == (("AccessionNumber", "123"),)
        assert (request.method, request.out) == ("move", Path("x"))
        assert call("pull", *where, "--since", "31.01.2024").code == 2

    def test_nobody_there(self, call, north):
        pytest.importorskip("pynetdicom")
        done = call("pull", "--out", "x", "--host", "localhost", "--port", 1, "--json")
        assert (done.code, done.json["exit_code"]) == (1, 1)


def test_start_needs_a_coordinator(call, north):
    done = call("start", "site.toml")
    assert (done.code, "the table [server] is missing" in done.err) == (2, True)
