"""`prostafed-sim datasets` as typed."""

import json
from functools import partial

import pytest

from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.survey import MOST_SHOWN
from tests import programs

call = partial(programs.call, "prostafed-sim", "datasets")


def test_it_lists_every_set_with_sites_licence_size_origin_and_tree():
    done = call()
    assert done.code == 0
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
            assert part in done.out
    assert json.loads(call("--json").out)["datasets"].keys() == DATASETS.keys()
    assert load_dataset("msd").title not in call("picai").out


def test_a_complete_folder_is_counted(written):
    done = call("picai", "--root", str(written("picai")), "--json")
    assert done.code == 0
    counts = {"patients": 1, "studies": 1, "with_masks": 1}
    assert json.loads(done.out)["counts"] == {"RUMC": counts, "ZGT": counts}
    assert "RUMC: 1 patients, 1 studies, 1 with masks" in call("picai", "--root", str(written("picai"))).out


@pytest.mark.parametrize("name", DATASETS)
def test_a_wrong_folder_is_answered_with_what_is_missing(name, tmp_path):
    done = call(name, "--root", str(tmp_path), "--json")
    said = json.loads(done.out)
    assert (done.code, said["counts"]) == (1, {})
    assert all(line.startswith(f"{tmp_path}: expected ") for line in said["missing"])
    text = call(name, "--root", str(tmp_path))
    assert (text.code, text.out) == (1, "")
    assert load_dataset(name).origin in text.err
    assert "Traceback" not in text.err


def test_many_missing_files_are_shown_in_part_and_given_whole_as_json(copied):
    root = copied("picai")
    sheet = root / "labels" / "clinical_information" / "marksheet.csv"
    sheet.write_text(sheet.read_text() + "".join(f"{n},1,0,NO,RUMC\n" for n in range(10, 30)))
    assert len(json.loads(call("picai", "--root", str(root), "--json").out)["missing"]) == 60
    lines = call("picai", "--root", str(root)).err.splitlines()
    assert lines[1] == "  images/10/10_1_t2w.mha: missing."
    assert lines[MOST_SHOWN + 1] == f"  ... and {60 - MOST_SHOWN} more (all with --json)."


def test_a_csPCa_study_without_a_lesion_is_named(copied):  # noqa: N802
    root = copied("picai")
    lesion = next((root / "labels").rglob("human_expert/resampled/2_20.nii.gz"))
    lesion.unlink()
    done = call("picai", "--root", str(root))
    assert done.code == 1
    assert "2_20.nii.gz: the lesion of a csPCa study, missing in" in done.err


def test_mistakes_of_usage():
    done = call("picia")
    assert (done.code, "did you mean 'picai'" in done.err) == (2, True)
    done = call("--root", "/tmp", "--json")
    assert (done.code, json.loads(done.out)["exit_code"]) == (2, 2)
    assert "--root needs the name of a set" in done.err
