"""What every entry of DATASETS promises: its facts, and what becomes of its exact layout."""

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import open_case_folder, write_case
from prostafed.common.imaging.cases import MASKS
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.dataset import list_studies
from prostafed.simulations.datasets.survey import survey_folder
from tests.simulations.datasets.layouts import DICOM_GRID, GRID, SEQUENCES, is_dicom
from tests.simulations.datasets.layouts import load as load_cases

Written = Callable[[str], Path]
GRIDS = {name: DICOM_GRID if is_dicom(name) else GRID for name in DATASETS}
OPTIONAL = ("adc", "hbv")


def load(name, root, sequences=SEQUENCES, **options):
    options = {"allow_missing": OPTIONAL} | options
    return list(load_cases(name, root, GRIDS[name], sequences, **options))


@pytest.mark.parametrize("name", DATASETS)
class TestEverySet:
    def test_the_entry_tells_where_to_get_the_set(self, name: str) -> None:
        entry = load_dataset(name)
        assert "." in entry.origin
        assert (entry.folds > 0) == (entry.read_fold is not None)

    def test_cases_come_by_id_with_what_the_entry_promises(self, written: Written, name: str) -> None:
        cases, entry = load(name, written(name)), load_dataset(name)
        assert all(one[0].case_id < other[0].case_id for one, other in pairwise(cases))
        assert {record.center for record, _, _ in cases} <= (set(entry.centers) or {""})
        for record, image, masks in cases:
            assert tuple(record.sequences) == entry.sequences
            assert image.shape == (3, *GRIDS[name].size)
            assert np.isfinite(image).all()
            assert tuple(image.any(axis=(1, 2, 3))) == tuple(each in entry.sequences for each in SEQUENCES)
            for mask, voxels in zip(MASKS, masks, strict=True):
                assert voxels.any() <= (mask in record.masks)
            assert record.source == ("phantom" if is_dicom(name) else name)
            assert len(record.fingerprint) == 396

    def test_cases_survive_the_case_folder(self, written: Written, name: str, tmp_path: Path) -> None:
        cases = load(name, written(name), ("t2w",), allow_missing=())
        for record, image, masks in cases:
            write_case(tmp_path, record, image, masks, GRIDS[name], ("t2w",))
        assert open_case_folder(tmp_path).records == tuple(record for record, _, _ in cases)

    def test_zones_are_pz_behind_tz(self, written: Written, name: str) -> None:
        """In every set, whatever its own code: label 1 lies towards the back (y grows to the back)."""
        seen = 0
        for record, _, masks in load(name, written(name), ("t2w",), allow_missing=()):
            if "zones" in record.masks:
                zones, gland = masks[1], masks[0] > 0
                pz_y, tz_y = ((np.argwhere(zones == label)[:, 1]).mean() for label in (1, 2))
                assert pz_y > tz_y + 5
                np.testing.assert_array_equal(zones > 0, gland)
                seen += 1
        assert (seen > 0) == ("zones" in load_dataset(name).labels)

    def test_a_sequence_that_is_neither_there_nor_allowed_to_be_missing(self, written: Written, name: str) -> None:
        absent = [each for each in SEQUENCES if each not in load_dataset(name).sequences]
        if not absent:
            return
        with pytest.raises(DataError, match=rf"has no {' and no '.join(absent)}: .*allow_missing = \[.*{absent[0]}"):
            load(name, written(name), allow_missing=())

    def test_an_unknown_sequence(self, written: Written, name: str) -> None:
        with pytest.raises(DataError, match="no sequence 'cor'"):
            load(name, written(name), ("t2w", "cor"))

    def test_a_centre_alone_and_one_nobody_comes_from(self, written: Written, name: str) -> None:
        for center in {study.record.center for study in list_studies(load_dataset(name), written(name))} - {""}:
            assert {case[0].center for case in load(name, written(name), centers=(center,))} == {center}
        with pytest.raises(DataError, match="no study of center 'Nowhere'"):
            load(name, written(name), centers=("Nowhere",))

    def test_an_image_that_cannot_be_read_leaves_its_study_out(self, copied: Written, name: str) -> None:
        root = copied(name)
        first = list_studies(load_dataset(name), root)[0]
        path = first.images["t2w"]
        for file in [path] if path.is_file() else sorted(path.rglob("*.dcm")):
            file.write_bytes(b"nothing")
        errors: list[DataError] = []
        cases = load(name, root, on_error=errors.append)
        assert len(cases) == len(list_studies(load_dataset(name), root)) - 1
        assert re.match(rf"[A-Z_]+ case={first.record.case_id}: ", str(errors[0]))
        assert "Traceback" not in str(errors[0])

    def test_a_survey_counts_patients_and_studies_by_centre(self, written: Written, name: str) -> None:
        found = survey_folder(name, written(name))
        assert found.missing == ()
        assert set(found.counts) <= (set(load_dataset(name).centers) or {"not told"})
        assert sum(each["studies"] for each in found.counts.values()) == len(
            list_studies(load_dataset(name), written(name))
        )

    def test_a_survey_names_each_missing_part(self, copied: Written, name: str) -> None:
        """Whatever image is taken away, a survey says so by its name; a mask too, or it is counted as not drawn."""
        root = copied(name)
        if is_dicom(name):
            shutil.rmtree(list_studies(load_dataset(name), root)[0].images["t2w"].parent)
            kept = survey_folder(name, root)
            assert kept.missing or sum(each["studies"] for each in kept.counts.values()) < 4
            return
        for study in (
            each for each in list_studies(load_dataset(name), root) if each.masks
        ):  # nothing else tells of one without
            for path in {*study.images.values(), *study.masks.values()}:
                content = path.read_bytes()
                path.unlink()
                missing = survey_folder(name, root).missing
                if not any(path.name in line for line in missing):
                    assert path in study.masks.values()
                    (now,) = (each for each in list_studies(load_dataset(name), root) if each.record == study.record)
                    assert path not in now.masks.values()
                path.write_bytes(content)
        assert survey_folder(name, root).missing == ()

    def test_an_empty_folder(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=str(tmp_path)):
            load(name, tmp_path)
        assert survey_folder(name, tmp_path).missing
        assert survey_folder(name, tmp_path / "absent").missing == (
            f"{tmp_path / 'absent'}: expected a folder, found none. Check the path.",
        )
