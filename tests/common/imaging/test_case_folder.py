import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import case_path, open_case_folder, write_case
from prostafed.common.imaging.cases import CaseRecord, Grid

GRID = Grid((3.0, 0.5, 0.5), (2, 3, 4))
SEQUENCES = ("t2w", "adc")
FULL = CaseRecord(
    case_id="a_1",
    patient_id="a",
    center="RUMC",
    pirads_reads=(3, 4),
    cspca=True,
    isup=2,
    age=64.0,
    psa=8.5,
    prostate_volume=41.0,
    masks=("gland", "lesion"),
    sequences={"t2w": "acquired", "adc": "fit of b 50, 400, 800"},
    source="phantom",
)


@pytest.fixture
def image():
    return np.arange(48, dtype=np.float16).reshape(2, 2, 3, 4)


@pytest.fixture
def masks():
    return (np.arange(72) % 3).astype(np.uint8).reshape(3, 2, 3, 4)


class TestRoundTrip:
    def test_returns_what_was_written(self, tmp_path, image, masks):
        assert write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES) == case_path(tmp_path, "a_1")
        cases = open_case_folder(tmp_path)
        assert (cases.grid, cases.sequences, cases.records) == (GRID, SEQUENCES, (FULL,))
        found_image, found_masks = cases.load(0)
        assert (found_image.dtype, found_masks.dtype) == (np.float16, np.uint8)
        np.testing.assert_array_equal(found_image, image)
        np.testing.assert_array_equal(found_masks, masks)

    def test_unknown_stays_unknown(self, tmp_path, image, masks):
        write_case(tmp_path, CaseRecord("b", "b"), image, masks, GRID, SEQUENCES)
        assert open_case_folder(tmp_path).records == (CaseRecord("b", "b"),)

    def test_memory_order_does_not_matter(self, tmp_path, image, masks):
        write_case(tmp_path, FULL, np.asfortranarray(image), masks[:, ::-1], GRID, SEQUENCES)
        found_image, found_masks = open_case_folder(tmp_path).load(0)
        np.testing.assert_array_equal(found_image, image)
        np.testing.assert_array_equal(found_masks, masks[:, ::-1])

    def test_cases_are_sorted_by_id(self, tmp_path, image, masks):
        for name in ("b", "a-1", "a", "B"):
            write_case(tmp_path, CaseRecord(name, name), image, masks, GRID, SEQUENCES)
        cases = open_case_folder(tmp_path)
        assert [record.case_id for record in cases.records] == ["B", "a", "a-1", "b"]

    def test_writing_again_replaces(self, tmp_path, image, masks):
        write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        write_case(tmp_path, FULL, image * 0, masks, GRID, SEQUENCES)
        assert not open_case_folder(tmp_path).load(0)[0].any()
        assert [path.name for path in tmp_path.iterdir()] == ["a_1.safetensors"]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        record=st.builds(
            CaseRecord,
            case_id=st.just("c"),
            patient_id=st.text(),
            center=st.text(),
            pirads_reads=st.lists(st.integers(1, 5), max_size=6).map(tuple),
            cspca=st.none() | st.booleans(),
            isup=st.none() | st.integers(0, 5),
            psa=st.none() | st.floats(0, 5000),
            sequences=st.dictionaries(st.text(), st.text(), max_size=3),
        )
    )
    def test_any_record_returns(self, tmp_path, image, masks, record):
        write_case(tmp_path, record, image, masks, GRID, SEQUENCES)
        assert open_case_folder(tmp_path).records == (record,)


class TestRefusals:
    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
    def test_values_that_are_not_finite_in_float16(self, tmp_path, masks, value):
        image = np.zeros((2, 2, 3, 4), np.float32)
        image[1, 1, 2, 3] = value
        with pytest.raises(DataError, match="Case a_1: the image holds values that are not finite in float16"):
            write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        assert not list(tmp_path.iterdir())

    def test_arrays_of_another_size(self, tmp_path, image, masks):
        with pytest.raises(DataError, match=r"expected 2 sequences and 3 masks on \(2, 3, 4\), found \(1, 2, 3, 4\)"):
            write_case(tmp_path, FULL, image[:1], masks, GRID, SEQUENCES)
        with pytest.raises(DataError, match="Case a_1"):
            write_case(tmp_path, FULL, image, masks[:, :1], GRID, SEQUENCES)

    @pytest.mark.parametrize("case_id", ["../a", "a/b", ".a", "", "a b", "a\n"])
    def test_an_id_that_is_no_file_name(self, tmp_path, image, masks, case_id):
        with pytest.raises(DataError, match=r"expected letters, digits"):
            write_case(tmp_path, CaseRecord(case_id, "p"), image, masks, GRID, SEQUENCES)

    @pytest.mark.parametrize("folder", [".", "missing"])
    def test_no_cases(self, tmp_path, folder):
        (tmp_path / ".half.safetensors").touch()
        with pytest.raises(DataError, match=r"No cases in .*Index"):
            open_case_folder(tmp_path / folder)

    @pytest.mark.parametrize(
        ("grid", "sequences"),
        [(Grid((3.0, 0.5, 0.6), (2, 3, 4)), SEQUENCES), (GRID, ("adc", "t2w"))],
    )
    def test_mixed_grids_or_sequences(self, tmp_path, image, masks, grid, sequences):
        write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        write_case(tmp_path, CaseRecord("b", "b"), image, masks, grid, sequences)
        with pytest.raises(DataError, match=r"b\.safetensors lies on .* but a_1\.safetensors on .*Index"):
            open_case_folder(tmp_path)

    @pytest.mark.parametrize("left", [0, 5, 200, -1])
    def test_a_truncated_file(self, tmp_path, image, masks, left):
        path = write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        path.write_bytes(path.read_bytes()[:left])
        with pytest.raises(DataError, match=r"a_1\.safetensors cannot be read. Delete it and index again"):
            open_case_folder(tmp_path)

    def test_a_file_that_vanished(self, tmp_path, image, masks):
        path = write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        cases = open_case_folder(tmp_path)
        path.unlink()
        with pytest.raises(DataError, match=r"a_1\.safetensors cannot be read"):
            cases.load(0)

    @pytest.mark.parametrize(
        "metadata",
        [
            None,
            {"other": "{}"},
            {"case": "{"},
            {"case": '{"record": {}}'},
            {"case": '{"record": {"case_id": "x", "patient_id": "x", "colour": 1}, "grid": {}, "sequences": []}'},
        ],
    )
    def test_a_file_of_another_program_or_release(self, tmp_path, image, metadata):
        save_file({"image": image}, tmp_path / "x.safetensors", metadata)
        with pytest.raises(
            DataError, match=r"x\.safetensors has no case header this release reads\. Index the case again\."
        ):
            open_case_folder(tmp_path)

    def test_a_renamed_file(self, tmp_path, image, masks):
        path = write_case(tmp_path, FULL, image, masks, GRID, SEQUENCES)
        path.rename(path.with_name("other.safetensors"))
        with pytest.raises(DataError, match=r"other\.safetensors holds case a_1"):
            open_case_folder(tmp_path)
