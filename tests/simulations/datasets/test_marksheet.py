import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.marksheet import read_marksheet, read_reads

HEADER = (
    "patient_id,study_id,mri_date,patient_age,psa,psad,prostate_volume,histopath_type,lesion_PIRADS,lesion_GS,"
    "lesion_ISUP,case_ISUP,case_csPCa,center"
)
POSITIVE = '10005,1000005,2012-07-18,64,12.1,0.24,51,MRBx,"4,2","4+3,0+0","3,0",3,YES,RUMC'
NEGATIVE = "10000,1000000,2019-07-02,73,,,,,2,,,0,NO,PCNN"


@pytest.fixture
def write(tmp_path):
    def write_table(*lines, name="marksheet.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding) + b"\n")
        return path

    return write_table


class TestReadMarksheet:
    def test_by_hand(self, write):
        negative, positive = read_marksheet(write(HEADER, POSITIVE, NEGATIVE))
        assert positive == CaseRecord(
            case_id="10005_1000005",
            patient_id="10005",
            center="RUMC",
            pirads_reads=(4,),
            cspca=True,
            isup=3,
            age=64,
            psa=12.1,
            prostate_volume=51,
        )
        assert negative == CaseRecord("10000_1000000", "10000", "PCNN", pirads_reads=(2,), cspca=False, isup=0, age=73)

    @pytest.mark.parametrize(
        ("cell", "reads"),
        [("", ()), ("N/A", ()), ('"N/A,3"', (3,)), ('"5, 4"', (5,)), ("1", (1,)), ('"2,N/A,N/A"', (2,))],
    )
    def test_the_read_is_the_highest_lesion_score(self, write, cell, reads):
        (record,) = read_marksheet(write(HEADER, NEGATIVE.replace(",2,,,0", f",{cell},,,0")))
        assert record.pirads_reads == reads

    def test_isup_1_is_cancer_but_not_significant(self, write):
        (record,) = read_marksheet(write(HEADER, NEGATIVE.replace(",0,NO", ",1,NO")))
        assert (record.isup, record.cspca) == (1, False)

    def test_order_is_that_of_case_ids_not_of_lines(self, write):
        assert read_marksheet(write(HEADER, POSITIVE, NEGATIVE)) == read_marksheet(write(HEADER, NEGATIVE, POSITIVE))

    def test_columns_may_be_few_and_in_any_order(self, write):
        (record,) = read_marksheet(write("center,case_csPCa,case_ISUP,study_id,patient_id", "ZGT,,,2,1"))
        assert record == CaseRecord("1_2", "1", "ZGT")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
    def test_a_byte_order_mark_and_blank_lines_do_not_matter(self, write, encoding):
        assert len(read_marksheet(write(HEADER, "", POSITIVE, "", encoding=encoding))) == 1

    @pytest.mark.parametrize(
        ("column", "good", "bad"),
        [
            ("patient_id", "10005,", "../x,"),
            ("study_id", ",1000005", ","),
            ("patient_age", ",64,", ",17,"),
            ("psa", "12.1", "<0.1"),
            ("psa", "12.1", "nan"),
            ("psa", "12.1", "5001"),
            ("psa", "12.1", '"12,1"'),
            ("prostate_volume", ",51,", ",0.5,"),
            ("lesion_PIRADS", '"4,2"', '"4,6"'),
            ("lesion_PIRADS", '"4,2"', '"4,,2"'),
            ("case_ISUP", ",3,YES", ",7,YES"),
            ("case_ISUP", ",3,YES", ",3.0,YES"),
            ("case_csPCa", "YES", "yes"),
            ("center", "RUMC", ""),
        ],
    )
    def test_a_wrong_cell_is_named(self, write, column, good, bad):
        path = write(HEADER, NEGATIVE, POSITIVE.replace(good, bad, 1))
        with pytest.raises(DataError) as caught:
            read_marksheet(path)
        value = bad.strip(",").split(",YES")[0].strip('"')
        assert str(caught.value).startswith(f"marksheet.csv: line 3, column {column}: expected ")
        assert f", found '{value}'." in str(caught.value)

    def test_an_unquoted_decimal_comma_is_named(self, write):
        with pytest.raises(DataError, match=r"line 2: expected 14 values, found 15\. Look for a decimal comma"):
            read_marksheet(write(HEADER, POSITIVE.replace("12.1", "12,1")))
        with pytest.raises(DataError, match="line 2: expected 14 values"):
            read_marksheet(write(HEADER, POSITIVE.removesuffix(",RUMC")))

    @pytest.mark.parametrize("line", [POSITIVE.replace("YES", "NO"), NEGATIVE.replace("NO", "YES")])
    def test_labels_that_contradict_each_other(self, write, line):
        with pytest.raises(DataError, match=r"line 2, column case_csPCa: expected YES from ISUP 2 on .* found ISUP"):
            read_marksheet(write(HEADER, line))

    def test_a_study_twice(self, write):
        with pytest.raises(DataError, match="line 3: expected every study once, found 10005_1000005 again"):
            read_marksheet(write(HEADER, POSITIVE, POSITIVE))

    def test_missing_columns_are_named_with_those_found(self, write):
        with pytest.raises(DataError, match="found no center among patient_id, study_id, case_csPCa"):
            read_marksheet(write("patient_id,study_id,case_csPCa", "1,2,NO"))
        with pytest.raises(DataError, match="among no columns"):
            read_marksheet(write(""))

    def test_all_mistakes_are_told_ten_at_most(self, write):
        lines = [f"{number},1,0,MAYBE,RUMC" for number in range(13)]
        with pytest.raises(DataError) as caught:
            read_marksheet(write("patient_id,study_id,case_ISUP,case_csPCa,center", *lines))
        told = str(caught.value).splitlines()
        assert len(told) == 11
        assert told[0].startswith("marksheet.csv: line 2, column case_csPCa")
        assert told[-1] == "... and 3 more."

    def test_another_encoding_is_named(self, write):
        with pytest.raises(DataError, match=r"marksheet.csv: line 1: expected UTF-8 text, found another encoding"):
            read_marksheet(write(HEADER, NEGATIVE.replace("PCNN", "Zürich"), encoding="latin-1"))


class TestReadReads:
    HEADER = "case_id,lesion_id,reader_id,pirads"

    def test_one_score_per_reader_the_highest_of_the_lesions(self, write):
        path = write(self.HEADER, "a,1,r2,3", "b,case,r1,1", "a,2,r1,2", "a,2,r2,5", "a,1,r1,4", name="reads.csv")
        assert read_reads(path, ["a", "b", "c"]) == {"a": (4, 5), "b": (1,)}

    @pytest.mark.parametrize(
        ("line", "column"),
        [("x,1,r,3", "case_id"), ("a,1,r,6", "pirads"), ("a,1,r,", "pirads"), ("a,1,,3", "reader_id")],
    )
    def test_a_wrong_cell_is_named(self, write, line, column):
        with pytest.raises(DataError, match=rf"^reads.csv: line 2, column {column}: expected .*, found"):
            read_reads(write(self.HEADER, line, name="reads.csv"), ["a"])

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(lines=st.permutations(["a,1,r2,3", "a,2,r1,2", "a,2,r2,5", "a,1,r1,4", "b,1,r9,1"]))
    def test_the_order_of_lines_does_not_matter(self, write, lines):
        assert read_reads(write(self.HEADER, *lines, name="reads.csv"), ["a", "b"]) == {"a": (4, 5), "b": (1,)}
