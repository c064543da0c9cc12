"""The researcher's commands as typed: exit codes, one JSON object on stdout, a sentence per mistake, Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests import programs
from tests.server.records.ledger_lines import read_ledger

PROGRAM = programs.BIN / "prostafed-sim"
call = partial(programs.call, PROGRAM.name)
STUDY = """name = "tiny"
[data]
size = [8, 24, 24]
spacing_mm = [6.0, 3.0, 3.0]
test_fraction = 0.3
[model]
width = 4
resolutions = 3
[[stage]]
kind = "pretrain"
rounds = 3
batch_size = 4
[[stage]]
kind = "finetune"
task = "classify"
rounds = 1
"""
FEDERATION = '[[site]]\nname = "north"\nsource = "phantom"\ncases = 8\n'


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated studies in the PI-CAI layout, written by the command."""
    folder = tmp_path_factory.mktemp("layout")
    assert call("phantom", "--cases", 3, "--out", folder / "generated", "--json").json["cases"] == 3
    return folder / "generated"


def write(folder: Path, study: str = STUDY, federation: str = FEDERATION) -> tuple[str, str]:
    (folder / "study.toml").write_text(study)
    (folder / "federation.toml").write_text(federation)
    return str(folder / "study.toml"), str(folder / "federation.toml")


def fails(code: int, expected: str, *arguments: str) -> None:
    done = call(*arguments, "--json")
    assert done.code == done.json["exit_code"] == code, done.err
    assert expected in done.json["error"]
    assert expected in done.err


def test_a_run_ends_with_one_json_object_and_a_report(tmp_path: Path) -> None:
    files = write(tmp_path)
    out = tmp_path / "out"
    done = call("run", *files, "--out", str(out), "--cache", str(tmp_path / "cache"), "--json")
    assert done.code == 0, done.err
    said = done.json
    assert (said["complete"], said["missing"]) == (True, [])
    assert Path(said["report"]).read_text().startswith("<!DOCTYPE html>")
    assert said["results"]
    assert "round 3/3" in done.err
    again = call("report", str(out))
    ended = "Every site took part to the end: north."
    assert (again.code, again.out) == (0, f"Report: {out / 'report.html'}\n{ended}\n")


def test_the_commands_that_come_next_work_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, STUDY.replace("rounds = 3", "rounds = 1").replace("classify", "lesion"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    ran = call("run", *(Path(file).name for file in files), "--out", "my runs/first", "--cache", tmp_path / "cache")
    report, ended, _, *commands = ran.out.splitlines()
    assert report.startswith("Report: ")
    assert ended == "Every site took part to the end: north."
    assert [line.split()[1] for line in commands] == ["export", "phantom", "predict"]
    export, phantom, predict = commands
    exported = subprocess.run(export, shell=True, capture_output=True, text=True, timeout=300, check=True)
    assert "It holds the heads of north." in exported.stdout
    assert programs.paste(phantom).code == 0
    assert "2 of 2 studies predicted" in programs.paste(predict).out
    assert len(list(tmp_path.glob("my runs/first/predictions/*/heat_map.dcm"))) == 2


def test_mistakes_are_one_sentence_before_anything_trains(tmp_path: Path) -> None:
    study, federation = write(tmp_path, STUDY.replace("rounds", "roundz", 1))
    fails(2, "did you mean 'rounds'", "run", study, federation)
    study, federation = write(tmp_path, STUDY + 'aggregate = "fedavgg"\n')
    fails(2, "did you mean 'fedavg'", "run", study, federation, "--out", str(tmp_path / "out"))
    study, federation = write(tmp_path, federation=FEDERATION.replace("8", '"8"'))
    fails(2, "site.1.cases", "run", study, federation)
    study, federation = write(tmp_path, federation='[[site]]\nname = "real"\nsource = "picai"\nroot = "absent"\n')
    fails(2, "does not exist", "run", study, federation)
    study, federation = write(tmp_path)
    fails(2, "engine is 'ray'", "run", study, federation, "--engine", "ray")
    fails(2, "--resume needs --out", "run", study, federation, "--resume")
    (tmp_path / "file").write_text("")
    fails(2, "Cannot write to the folder", "run", study, federation, "--out", str(tmp_path / "file" / "out"))
    fails(1, "", "report", str(tmp_path))
    phantom = ("phantom", "--cases", "1", "--out", str(tmp_path / "layout"))
    fails(2, "did you mean 'RUMC'", *phantom, "--center", "RUMCC")
    fails(2, "vendor", *phantom, "--vendor", "toshiba")
    fails(2, "count must be at least 1 and at most 7", *phantom, "--readers", "9")
    assert not (tmp_path / "out").exists()


def test_a_run_that_goes_on_without_a_site_ends_with_3_and_says_who_is_missing(tmp_path: Path) -> None:
    south = FEDERATION.replace("north", "south") + '[[site.faults]]\nkind = "absent"\nfirst_round = 3\n'
    files = write(tmp_path, federation=FEDERATION + south)
    out, cache = tmp_path / "out", ("--cache", str(tmp_path / "cache"))
    done = call("run", *files, "--out", str(out), *cache)
    assert done.code == 3, done.err
    said = done.out.splitlines()[-1]
    assert said.startswith("Not everybody took part to the end. south is missing from round 3 of stage 1 on")
    assert said.endswith("at north; south (its number of test cases is not known) is missing.")
    assert "Not everybody took part to the end" in (out / "report.html").read_text()
    done = call("run", *files, "--out", str(out), *cache, "--resume", "--json")
    assert (done.code, done.json["complete"]) == (3, False)
    assert [(each["site"], each["round"]) for each in done.json["missing"]] == [("south", 3)]


def test_a_study_without_adc_is_left_out_and_said(tmp_path: Path, layout: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(layout, copy)
    gone = sorted(copy.rglob("*_adc.mha"))[0]
    gone.unlink()
    files = write(tmp_path, federation=f'[[site]]\nname = "site"\nsource = "picai"\nroot = "{copy}"\n')
    out = tmp_path / "out"
    done = call("run", *files, "--out", str(out), "--cache", str(tmp_path / "cache"))
    assert done.code == 0, done.err
    assert "left out: NO_ADC" in done.err
    assert json.loads((out / "federation.json").read_text())["sites"][0]["cases"] == 2
    report = (out / "report.html").read_text()
    assert "1 study left out" in report
    assert "Generated images" in report, "generated studies are called that in whatever layout they come"


def test_a_site_without_any_usable_study_stops_the_run(tmp_path: Path, layout: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(layout, copy)
    for path in copy.rglob("*_adc.mha"):
        path.unlink()
    files = write(tmp_path, federation=f'[[site]]\nname = "site"\nsource = "picai"\nroot = "{copy}"\n')
    fails(
        1, "no case that can be used", "run", *files, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")
    )


def test_ctrl_c_in_a_round_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    files = write(tmp_path, STUDY.replace("rounds = 3", "rounds = 200"))
    out, cache = tmp_path / "out", ("--cache", str(tmp_path / "cache"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it
    process = subprocess.Popen([PROGRAM, "run", *files, "--out", out, *cache], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    rounds = out / "arms" / "federated" / "rounds.jsonl"
    wait_for_rounds(process, rounds, 3)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"--out {out} --resume" in stderr, "it says how to go on"
    assert "Traceback" not in stderr
    assert not list(out.rglob("*.part"))
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    assert call("report", str(out)).code == 0, "an interrupted run has a report"


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    files = write(tmp_path, STUDY.replace("rounds = 3", "rounds = 12"))
    cache = ("--cache", str(tmp_path / "cache"))
    assert call("run", *files, "--out", str(tmp_path / "whole"), *cache).code == 0
    out = tmp_path / "killed"
    process = subprocess.Popen([PROGRAM, "run", *files, "--out", out, *cache], stderr=subprocess.DEVNULL)
    rounds = out / "arms" / "federated" / "rounds.jsonl"
    wait_for_rounds(process, rounds, 4)
    process.kill()
    process.wait()
    assert 4 <= len(rounds.read_text().splitlines()) < 13
    done_before = [line for line in read_ledger(out / "arms" / "federated") if line.event == "round"]
    (out / "arms" / ".model.safetensors.x.part").write_text("half")
    done = call("run", *files, "--out", str(out), *cache, "--resume")
    assert done.code == 0, done.err
    assert "round 2/12" not in done.err, "finished rounds are not run again"
    ended = [line for line in read_ledger(out / "arms" / "federated") if line.event == "round"]
    assert ended[: len(done_before)] == done_before, "a finished round was lost"
    for name in ("model.safetensors", "metrics.csv", "predictions.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list(out.rglob("*.part"))


def wait_for_rounds(process: subprocess.Popen[str] | subprocess.Popen[bytes], rounds: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not (rounds.exists() and len(rounds.read_text().splitlines()) >= count):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_every_command_has_help_and_does_not_load_torch_for_it() -> None:
    for command in ("demo", "run", "phantom", "report", "export"):
        done = call(command, "--help")
        assert done.code == 0
        assert "--json" in done.out
    modules = ", ".join(f"prostafed.{room}.cli" for room in ("simulations", "server", "client"))
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"
