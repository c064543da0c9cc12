"""A site keeps who is trained on and who is tested."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.study import Study
from tests.client.tiny_site import FINETUNE, GRID, SEQUENCES, make_study, write_site


def add_cases(site_file: Path, numbers: range, labelled: bool = True) -> None:
    for number in numbers:
        name, cspca = f"case{number}", number % 2 == 0 if labelled else None
        record = CaseRecord(name, name, cspca=cspca, sequences=dict.fromkeys(SEQUENCES, "acquired"))
        image, masks = np.ones((3, *GRID.size), np.float16), np.zeros((3, *GRID.size), np.uint8)
        write_case(site_file.parent / "cases", record, image, masks, GRID, SEQUENCES)


def open_anew(site_file: Path, study: Study) -> Workplace:
    open_workplace.cache_clear()
    return open_workplace(site_file, study.canonical())


def sides(place: Workplace) -> dict[str, str]:
    return {place.cases.records[i].patient_id: side for side, found in place.splits.items() for i in found}


def test_nobody_changes_sides_where_others_are_indexed_or_labelled_later(tmp_path: Path) -> None:
    site_file, study = write_site(tmp_path / "site", cases=1), make_study(FINETUNE)
    add_cases(site_file, range(30))
    add_cases(site_file, range(30, 40), labelled=False)
    before = sides(open_anew(site_file, study))
    assert all(before[f"case{number}"] == "train" for number in range(30, 40))
    add_cases(site_file, range(30, 90))  # ten of them were there, and are labelled now
    after = sides(open_anew(site_file, study))
    assert len(after) > len(before)
    assert {patient: after[patient] for patient in before} == before
    assert {after[f"case{number}"] for number in range(40, 90)} >= {"train", "test"}
    other = study.model_copy(update={"data": study.data.model_copy(update={"split_seed": 1})})
    assert sides(open_anew(site_file, other)) != after, "a control: another seed, another split"
    assert sides(open_anew(site_file, replace_seed(study))) == after, "the study's own seed has no part in it"


def replace_seed(study: Study) -> Study:
    return study.model_copy(update={"seed": study.seed + 1})


def test_a_damaged_file_of_sides_stops_the_site(tmp_path: Path) -> None:
    site_file, study = write_site(tmp_path / "site", cases=4), make_study(FINETUNE)
    open_anew(site_file, study)
    (tmp_path / "site" / "memory" / "sides.json").write_text("{")
    with pytest.raises(DataError, match=r"sides\.json is damaged"):
        open_anew(site_file, study)


def test_cases_that_are_indexed_meanwhile_are_seen_by_the_next_run_and_not_by_this_one(tmp_path: Path) -> None:
    site_file, study = write_site(tmp_path / "site", cases=4), make_study(FINETUNE)
    canonical = study.canonical()
    this = open_workplace(site_file, canonical, run=1)
    add_cases(site_file, range(4, 9))
    assert open_workplace(site_file, canonical, run=1) is this
    assert len(this.cases.records) == 4
    assert len(open_workplace(site_file, canonical, run=2).cases.records) == 9
