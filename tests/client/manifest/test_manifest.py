"""The manifest: cells, rows that contradict each other, and what a case is told."""

from pathlib import Path

import pytest

from prostafed.client.manifest import check_manifest, describe_case, find_mistakes, read_manifest
from prostafed.client.manifest.labels import grade_gleason
from prostafed.common.errors import DataError

STUDIES = "case_id,patient_key,case_ISUP,case_csPCa,psa,psad,prostate_volume\n"


@pytest.fixture
def folder(tmp_path: Path):
    def write(studies: str, lesions: str = "", reads: str = "") -> Path:
        for name, text in (("studies.csv", studies), ("lesions.csv", lesions), ("reads.csv", reads)):
            if text:
                (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


def codes(folder: Path) -> list[tuple[str, str, str]]:
    return [(each.code, each.severity, each.case_id) for each in check_manifest(folder).findings]


class TestCells:
    @pytest.mark.parametrize(
        ("column", "cell"),
        [
            ("case_id", "a b"),
            ("case_id", "x" * 33),
            ("patient_key", "Müller"),
            ("patient_key", "123/45"),
            ("dicom_dir", "../other"),
            ("dicom_dir", "/data/x"),
            ("dicom_dir", "C:\\data"),
            ("lesion_mask", "a/../../b.nii.gz"),
            ("mri_date", "02.07.2019"),
            ("mri_date", "43648"),
            ("mri_date", "1562025600"),
            ("mri_date", "2019-13-02"),
            ("patient_age", "17"),
            ("patient_age", "111"),
            ("psa", "<0.1"),
            ("psa", '"12,1"'),
            ("psa", "5001"),
            ("psa", "-1"),
            ("prostate_volume", "0.5"),
            ("case_ISUP", "7"),
            ("case_csPCa", "yes"),
            ("label_source", "guess"),
            ("mask_space", "hbv"),
            ("mask_coding", "gleason"),
            ("histopath_type", "biopsy"),
            ("opt_out", "2"),
            ("split", "val"),
        ],
    )
    def test_a_value_out_of_range_is_named_by_line_and_column_only(self, folder, column, cell):
        columns = "case_id,psa,case_ISUP" if column == "case_id" else f"case_id,{column}"
        line = f"{cell},," if column == "case_id" else f"a,{cell}"
        (finding,) = check_manifest(folder(f"{columns}\n{line}\n")).findings
        value = cell.strip('"')
        assert (finding.code, finding.severity) == ("LABEL_RANGE", "F")
        assert finding.text.startswith(f"studies.csv: line 2, column {column}: expected ")
        assert f"'{value}'" not in finding.text  # it may be what must not leave
        assert f"found '{value}'" in finding.local

    @pytest.mark.parametrize(
        ("table", "columns", "line", "column"),
        [
            ("lesions", "case_id,lesion_id,gleason", "a,1,4-3", "gleason"),
            ("lesions", "case_id,lesion_id,isup", "a,1,6", "isup"),
            ("lesions", "case_id,lesion_id,zone", "a,1,PZa", "zone"),
            ("lesions", "case_id,lesion_id,mask_label", "a,1,0", "mask_label"),
            ("reads", "case_id,reader_id,pirads", "a,r,6", "pirads"),
            ("reads", "case_id,reader_id,pirads", "a,r,", "pirads"),
            ("reads", "case_id,reader_id,pirads,dwi_score", "a,r,3,0", "dwi_score"),
        ],
    )
    def test_so_are_those_of_lesions_and_reads(self, folder, table, columns, line, column):
        (finding,) = check_manifest(folder("case_id\na\n", **{table: f"{columns}\n{line}\n"})).findings
        assert finding.text.startswith(f"{table}.csv: line 2, column {column}: expected ")
        assert (finding.code, finding.case_id) == ("LABEL_RANGE", "a")

    def test_good_cells(self, folder):
        columns = "case_id,patient_key,dicom_dir,mri_date,patient_age,histopath_type,opt_out,split"
        manifest = read_manifest(folder(f"{columns}\na,p-1,x/y z,2019-07-02,64,SysBx+MRBx,0,train\n"))
        assert manifest.findings == ()
        (row,) = manifest.studies
        assert (row.dicom_dir, str(row.mri_date), row.patient_age, row.opt_out) == ("x/y z", "2019-07-02", 64.0, 0)


class TestRows:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("a,p,2,NO,,,", [("LABEL_CONFLICT", "F", "a")]),
            ("a,p,1,YES,,,", [("LABEL_CONFLICT", "F", "a")]),
            ("a,p,2,YES,,,", []),
            ("a,p,1,NO,,,", []),
            ("a,p,,YES,,,", []),
            ("a,p,,,6,0.12,50", []),  # 6 / 50 = 0.12
            ("a,p,,,6,0.15,50", []),  # 0.03 off
            ("a,p,,,6,0.16,50", [("PSAD", "W", "a")]),
            ("a,p,,,6,0.08,50", [("PSAD", "W", "a")]),
            ("a,p,,,,0.16,50", []),
        ],
    )
    def test_labels_and_psa_density(self, folder, line, expected):
        assert codes(folder(f"{STUDIES}{line}\n")) == expected

    def test_a_case_or_a_folder_twice(self, folder):
        assert codes(folder("case_id,dicom_dir\na,x\na,y\nb,x\n")) == [
            ("LABEL_CONFLICT", "F", "a"),
            ("LABEL_CONFLICT", "F", "b"),
        ]

    def test_a_patient_on_two_sides(self, folder):
        rows = "case_id,patient_key,split\na,p,train\nb,p,test\nc,q,test\nd,q,\ne,q,test\n"
        assert codes(folder(rows)) == [("LABEL_CONFLICT", "F", "b")]

    @pytest.mark.parametrize(
        ("columns", "cells", "expected"),
        [
            ("gland_mask", "g.nii.gz", ["MASK_SPACE"]),
            ("gland_mask,mask_space", "g.nii.gz,t2w", []),
            ("lesion_mask,mask_space", "l.nii.gz,adc", ["MASK_LABEL"]),
            ("lesion_mask,mask_space,mask_coding", "l.nii.gz,adc,isup", []),
            ("zones_mask,mask_space", "z.nii.gz,t2w", ["MASK_LABEL"]),
            ("zones_mask,mask_space,zones_coding", "z.nii.gz,t2w,tz1_pz2", []),
            ("dicom_dir,t2w", "x,y.mha", ["LABEL_RANGE"]),
        ],
    )
    def test_a_mask_says_where_it_lies_and_what_it_means(self, folder, columns, cells, expected):
        assert [code for code, _, _ in codes(folder(f"case_id,{columns}\na,{cells}\n"))] == expected

    def test_lesions_against_their_study(self, folder):
        lesions = "case_id,lesion_id,gleason,isup\na,1,3+4,3\na,2,4+4,\na,2,3+3,1\nz,1,,\n"
        found = check_manifest(folder("case_id,case_ISUP\na,3\n", lesions)).findings
        assert [(each.case_id, each.text.split(":")[1].split(",")[0]) for each in found] == [
            ("a", " line 2"),  # 3+4 is ISUP 2
            ("a", " line 3"),  # 4+4 is ISUP 4, above the study's 3
            ("a", " line 4"),  # lesion 2 again
            ("", " line 5"),  # no such study
        ]
        assert "'z'" in found[-1].local
        assert "'z'" not in found[-1].text

    def test_a_read_twice_is_wrong_but_a_consensus_beside_it_is_not(self, folder):
        reads = "case_id,reader_id,pirads,read_type\na,r,3,clinical\na,r,4,consensus\n"
        assert codes(folder("case_id\na\n", reads=reads)) == []
        assert codes(folder("case_id\na\n", reads=f"{reads}a,r,4,clinical\n")) == [("LABEL_CONFLICT", "F", "a")]


class TestReading:
    def test_a_wrong_cell_refuses_its_study_and_no_other(self, folder):
        manifest = read_manifest(folder(f"{STUDIES}a,p,7,,,,\nb,q,1,,,,\n"))
        first, second = manifest.studies
        assert first.case_ISUP is None
        (finding,) = find_mistakes(manifest, first, "0123456789abcdef")
        assert finding.text.startswith("LABEL_RANGE case=0123456789abcdef: studies.csv: line 2, column case_ISUP: ")
        assert find_mistakes(manifest, second, "0") == ()

    def test_a_line_whose_study_cannot_be_told_ends_the_reading(self, folder):
        # It may be of a patient who objects.
        with pytest.raises(DataError, match=r"^studies.csv: line 3: expected 2 values, found something else"):
            read_manifest(folder("case_id,opt_out\na,0\nb,1,0\n"))
        with pytest.raises(DataError, match=r"^studies.csv: line 2, column case_id: "):
            read_manifest(folder("case_id,opt_out\n,1\n"))

    def test_a_file_that_is_no_table_ends_the_reading_without_a_word_of_it(self, folder):
        with pytest.raises(DataError) as caught:
            read_manifest(folder("Müller;Hans\n123;4\n"))
        assert "Müller" not in str(caught.value)
        with pytest.raises(DataError, match=r"^reads.csv: line 1: ") as caught:
            read_manifest(folder("case_id\na\n", reads="case_id,reader_id,pirads,Hans Müller\na,r,3,x\n"))
        assert "Müller" not in str(caught.value)

    def test_missing_tables(self, tmp_path, folder):
        with pytest.raises(DataError, match=r"Expected studies.csv in the manifest's folder, found none"):
            read_manifest(tmp_path)
        assert read_manifest(folder("case_id\na\n")).lesions == ()


class TestDescribeCase:
    def describe(self, folder: Path):
        manifest = read_manifest(folder)
        return describe_case(manifest, manifest.studies[0])

    def test_by_hand(self, folder):
        reads = "case_id,lesion_id,reader_id,pirads\na,1,r2,3\nb,1,r9,5\na,2,r2,4\na,case,r1,2\n"
        columns = "case_id,patient_age,psa,prostate_volume,case_ISUP,case_csPCa"
        assert self.describe(folder(f"{columns}\na,64,5.5,50,3,YES\nb,,,,,\n", reads=reads)) == {
            "pirads_reads": (2, 4),  # r1, then r2 with the higher of its lesions
            "cspca": True,
            "isup": 3,
            "age": 64.0,
            "psa": 5.5,
            "prostate_volume": 50.0,
        }

    @pytest.mark.parametrize(
        ("cells", "lesions", "isup", "cspca"),
        [
            (",", "", None, None),
            ("1,", "", 1, False),
            ("2,", "", 2, True),
            (",NO", "", None, False),
            (",", "a,1,3+3,\na,2,,3\n", 3, True),
            (",", "a,1,3+3,\n", 1, False),
            (",", "a,1,3+3,\na,2,,\n", None, None),  # a lesion without a grade: the highest is not known
            (",YES", "a,1,,\n", None, True),
            ("0,", "b,1,4+4,\n", 0, False),  # another study's lesion
        ],
    )
    def test_labels_come_from_the_study_else_its_lesions(self, folder, cells, lesions, isup, cspca):
        table = f"case_id,lesion_id,gleason,isup\n{lesions}" if lesions else ""
        found = self.describe(folder(f"case_id,case_ISUP,case_csPCa\na,{cells}\nb,,\n", table))
        assert (found["isup"], found["cspca"]) == (isup, cspca)

    def test_gleason(self):
        table = {"0+0": 0, "2+3": 1, "3+3": 1, "3+4": 2, "4+3": 3, "4+4": 4, "3+5": 4, "5+3": 4, "4+5": 5, "5+5": 5}
        assert {gleason: grade_gleason(gleason) for gleason in table} == table
        assert grade_gleason(None) is None
        assert grade_gleason("5+2") is None
