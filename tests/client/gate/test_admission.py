"""The gate: which cases enter a study."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.admission import admit_cases
from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.imaging.case_folder import CaseFolder, open_case_folder, write_case
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Data

GRID = Grid((3.0, 1.0, 1.0), (2, 4, 4))
ALL = ("t2w", "adc", "hbv")


def study_data(**changes: object) -> Data:
    return parse({"spacing_mm": [3.0, 1.0, 1.0], "size": [2, 4, 4], **changes}, Data, "test")


@pytest.fixture
def folder(tmp_path: Path) -> CaseFolder:
    """Three cases: complete, without hbv, without adc."""
    for case_id, has in {"a": ALL, "b": ("t2w", "adc"), "c": ("t2w", "hbv")}.items():
        record = CaseRecord(case_id, case_id, sequences=dict.fromkeys(has, "acquired"))
        image = np.array([[[[float(name in has)] * 4] * 4] * 2 for name in ALL])
        write_case(tmp_path, record, image.astype(np.float16), np.zeros((3, 2, 4, 4), np.uint8), GRID, ALL)
    return open_case_folder(tmp_path)


@pytest.mark.parametrize(("allowed", "enter"), [([], "a"), (["hbv"], "ab"), (["adc"], "ac"), (["adc", "hbv"], "abc")])
def test_a_case_enters_with_all_sequences_or_those_the_study_insists_on(
    folder: CaseFolder, allowed: list[str], enter: str
) -> None:
    admitted = admit_cases(folder, study_data(allow_missing=allowed))
    assert [record.case_id for record in admitted.records] == list(enter)
    image, _ = admitted.load(len(enter) - 1)
    assert image.any(axis=(1, 2, 3)).tolist() == [name in admitted.records[-1].sequences for name in ALL]


def test_a_site_without_a_case_that_fits_is_told_what_is_missing(folder: CaseFolder) -> None:
    without = CaseFolder(folder.folder, folder.grid, folder.sequences, folder.records[1:2])
    with pytest.raises(DataError, match=r"None of the 1 cases.*hbv is missing.*allow_missing"):
        admit_cases(without, study_data())


def test_another_grid_is_refused(folder: CaseFolder) -> None:
    with pytest.raises(DataError, match=r"wants 2x4x8 voxels of 3x1x1 mm with t2w, adc, hbv. Index them again"):
        admit_cases(folder, study_data(size=[2, 4, 8]))


@pytest.mark.parametrize(
    ("sequences", "allowed"), [(["t2w", "adc"], ["hbv"]), (["adc"], ["adc"]), (["t2w", "adc"], ["adc", "adc"])]
)
def test_a_study_must_insist_on_something_and_allow_only_what_it_has(sequences: list[str], allowed: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="allow_missing"):
        study_data(sequences=sequences, allow_missing=allowed)
