"""Public tables -> a manifest."""

from pathlib import Path

import pytest

from prostafed.client.manifest import describe_case, read_manifest
from prostafed.client.manifest.imports import align_isup, import_marksheet, import_prostate158, write_tables
from prostafed.client.manifest.labels import grade_gleason
from prostafed.common.errors import ConfigurationError, DataError

HEADER = (
    "patient_id,study_id,mri_date,patient_age,psa,psad,prostate_volume,histopath_type,lesion_PIRADS,lesion_GS,"
    "lesion_ISUP,case_ISUP,case_csPCa,center\n"
)


def test_a_marksheet_by_hand(tmp_path):
    sheet = tmp_path / "marksheet.csv"
    sheet.write_text(
        HEADER
        + '10005,1000005,2012-07-18,64,12.1,0.24,51,MRBx,"4,N/A,2","4+3,N/A,0+0","3,0",3,YES,RUMC\n'
        + "10000,1000000,2019-07-02,73,,,,,2,,,0,NO,PCNN\n"
    )
    write_tables(tmp_path / "manifest", import_marksheet(sheet))
    manifest = read_manifest(tmp_path / "manifest")
    assert manifest.findings == ()
    positive, negative = manifest.studies
    assert (positive.case_id, positive.patient_key) == ("10005_1000005", "10005")
    assert positive.adc == "images/10005/10005_1000005_adc.mha"
    assert (positive.label_source, negative.label_source) == ("histology", "mri_negative")
    assert [(each.lesion_id, each.gleason, each.isup) for each in manifest.lesions] == [
        ("1", "4+3", 3),
        ("2", None, None),
        ("3", "0+0", 0),
    ]
    assert [(each.case_id, each.lesion_id, each.pirads) for each in manifest.reads] == [
        ("10005_1000005", "1", 4),
        ("10005_1000005", "3", 2),
        ("10000_1000000", "case", 2),
    ]
    assert describe_case(manifest, positive) == {
        "pirads_reads": (4,),
        "cspca": True,
        "isup": 3,
        "age": 64.0,
        "psa": 12.1,
        "prostate_volume": 51.0,
    }


@pytest.mark.parametrize(
    ("gleasons", "isups", "expected"),
    [
        (["3+4", "N/A", "0+0"], ["2", "0"], [2, None, 0]),
        (["N/A"], ["N/A"], [None]),
        ([], [], []),
        (["N/A", "N/A"], [], [None, None]),
        (["3+4", "N/A"], [], None),
        (["3+4"], ["2", "1"], None),
    ],
)
def test_grades_are_aligned_to_the_lesions_with_a_gleason_score(gleasons, isups, expected):
    assert align_isup(gleasons, isups) == expected


def test_a_marksheet_with_mistakes_imports_nothing(tmp_path):
    sheet = tmp_path / "marksheet.csv"
    sheet.write_text(HEADER + '1,1,,,"12,1",,,,6,,,0,NO,X\n2,2,,,,,,,,"3+4,3+3",2,2,YES,X\n')
    with pytest.raises(DataError) as caught:
        import_marksheet(sheet)
    assert [line.split(":")[1].strip() for line in str(caught.value).splitlines()] == [
        "line 2, column psa",
        "line 2, column lesion_PIRADS",
        "line 3, column lesion_ISUP",
    ]


@pytest.mark.data
def test_the_whole_marksheet_of_picai(data_folder: Path, tmp_path):
    tables = import_marksheet(data_folder / "picai_labels" / "clinical_information" / "marksheet.csv")
    write_tables(tmp_path, tables)
    manifest = read_manifest(tmp_path)
    assert len(manifest.studies) == 1500
    assert {each.code for each in manifest.findings} == {"PSAD"}
    graded = [each for each in manifest.lesions if each.gleason]
    assert len(graded) == 1368
    assert all(grade_gleason(each.gleason) == each.isup for each in graded)
    # Without the study's own grade, its lesions give the same one.
    for row in manifest.studies:
        alone = describe_case(manifest, row.model_copy(update={"case_ISUP": None, "case_csPCa": None}))
        assert alone["isup"] in (None, row.case_ISUP)


def test_prostate158_by_hand(tmp_path):
    header = "ID,t2,adc,dwi,t2_anatomy_reader1,t2_tumor_reader1,adc_tumor_reader1\n"
    line = (
        "{0},train/{0}/t2.nii.gz,train/{0}/adc.nii.gz,train/{0}/dwi.nii.gz,train/{0}/t2_anatomy_reader1.nii.gz,,{1}\n"
    )
    (tmp_path / "train.csv").write_text(header + line.format("020", "train/020/adc_tumor_reader1.nii.gz"))
    (tmp_path / "valid.csv").write_text(header + line.format("024", "train/024/empty.nii.gz"))
    write_tables(tmp_path / "manifest", import_prostate158(tmp_path))
    manifest = read_manifest(tmp_path / "manifest")
    assert manifest.findings == ()
    first, second = manifest.studies
    assert (first.case_id, first.split, second.split) == ("020", "train", "validation")
    assert (first.hbv, first.zones_coding) == ("train/020/dwi.nii.gz", "tz1_pz2")  # reversed in this set
    assert second.lesion_mask == "train/024/empty.nii.gz"
    assert describe_case(manifest, first)["cspca"] is None
    with pytest.raises(ConfigurationError, match="has lines already"):
        write_tables(tmp_path / "manifest", import_prostate158(tmp_path / "train.csv"))
    with pytest.raises(DataError, match=r"expected train.csv, valid.csv or test.csv"):
        import_prostate158(tmp_path / "manifest")
