"""`prostafed-sim datasets` as typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.survey import MOST_SHOWN

PROGRAM = Path(sys.executable).parent / "prostafed-sim"


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "datasets", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_lists_every_set_with_sites_licence_size_origin_and_tree():
    done = call()
    assert done.returncode == 0
    for entry in map(load_dataset, DATASETS):
        for part in (
            entry.name,
            entry.title,
            *entry.centers,
            entry.licence,
            entry.size,
            entry.origin,
            *entry.tree.splitlines(),
        ):
            assert part in done.stdout
    assert json.loads(call("--json").stdout)["datasets"].keys() == DATASETS.keys()
    assert load_dataset("msd").title not in call("picai").stdout


def test_a_complete_folder_is_counted(written):
    done = call("picai", "--root", str(written("picai")), "--json")
    assert done.returncode == 0
    counts = {"patients": 1, "studies": 1, "with_masks": 1}
    assert json.loads(done.stdout)["counts"] == {"RUMC": counts, "ZGT": counts}
    assert "RUMC: 1 patients, 1 studies, 1 with masks" in call("picai", "--root", str(written("picai"))).stdout


@pytest.mark.parametrize("name", DATASETS)
def test_a_wrong_folder_is_answered_with_what_is_missing(name, tmp_path):
    done = call(name, "--root", str(tmp_path), "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["counts"]) == (1, {})
    assert all(line.startswith(f"{tmp_path}: expected ") for line in said["missing"])
    text = call(name, "--root", str(tmp_path))
    assert (text.returncode, text.stdout) == (1, "")
    assert load_dataset(name).origin in text.stderr
    assert "Traceback" not in text.stderr


def test_many_missing_files_are_shown_in_part_and_given_whole_as_json(copied):
    root = copied("picai")
    sheet = root / "labels" / "clinical_information" / "marksheet.csv"
    sheet.write_text(sheet.read_text() + "".join(f"{n},1,0,NO,RUMC\n" for n in range(10, 30)))
    assert len(json.loads(call("picai", "--root", str(root), "--json").stdout)["missing"]) == 60
    lines = call("picai", "--root", str(root)).stderr.splitlines()
    assert lines[1] == "  images/10/10_1_t2w.mha: missing."
    assert lines[MOST_SHOWN + 1] == f"  ... and {60 - MOST_SHOWN} more (all with --json)."


def test_a_csPCa_study_without_a_lesion_is_named(copied):  # noqa: N802
    root = copied("picai")
    lesion = next((root / "labels").rglob("human_expert/resampled/2_20.nii.gz"))
    lesion.unlink()
    done = call("picai", "--root", str(root))
    assert done.returncode == 1
    assert "2_20.nii.gz: the lesion of a csPCa study, missing in" in done.stderr


def test_mistakes_of_usage():
    done = call("picia")
    assert (done.returncode, "did you mean 'picai'" in done.stderr) == (2, True)
    done = call("--root", "/tmp", "--json")
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (2, 2)
    assert "--root needs the name of a set" in done.stderr
