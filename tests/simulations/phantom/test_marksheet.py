"""The tables, over enough patients to meet every kind."""

import csv

import pytest

from prostafed.common.shell.tables import write_table
from prostafed.simulations.phantom.case import draw_study
from prostafed.simulations.phantom.marksheet import COLUMNS, describe_study, list_reads
from prostafed.simulations.phantom.settings import Readers, Scanner

GRADE_GROUPS = {"0+0": 0, "3+3": 1, "3+4": 2, "4+3": 3, "4+4": 4, "4+5": 5}


@pytest.fixture(scope="module")
def studies():
    return {(str(index), "7"): draw_study(2, index, "PCNN", Scanner(), Readers(count=3)) for index in range(80)}


def test_rows_agree_with_their_patients(studies, tmp_path):
    table = tmp_path / "marksheet.csv"
    write_table(table, COLUMNS, [describe_study(*ids, study) for ids, study in studies.items()])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(studies)
    for row, study in zip(rows, studies.values(), strict=True):
        patient = study.patient
        assert (int(row["case_ISUP"]), row["case_csPCa"]) == (patient.isup, "YES" if patient.isup >= 2 else "NO")
        assert float(row["psad"]) == pytest.approx(float(row["psa"]) / float(row["prostate_volume"]), abs=0.006)
        assert max(map(int, row["lesion_PIRADS"].split(","))) == patient.pirads
        grades = [GRADE_GROUPS[gleason] for gleason in row["lesion_GS"].split(",") if gleason]
        assert grades == [int(grade) for grade in row["lesion_ISUP"].split(",") if grade]
        assert max(grades, default=0) == patient.isup
        assert bool(row["histopath_type"]) == bool(grades) == (patient.pirads >= 3 or patient.isup > 0)
    assert {row["case_ISUP"] for row in rows} >= {"0", "1", "2"}


def test_reads_are_one_row_per_case_and_reader(studies):
    rows = [row for ids, study in studies.items() for row in list_reads("_".join(ids), study)]
    assert len(rows) == 3 * len(studies)
    first = [row for row in rows if row["case_id"] == "0_7"]
    assert [row["reader_id"] for row in first] == ["reader1", "reader2", "reader3"]
    assert tuple(int(row["pirads"]) for row in first) == studies["0", "7"].reads
    assert {row["lesion_id"] for row in rows} == {"case"}
