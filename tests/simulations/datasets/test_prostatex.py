"""PROSTATEx: the table of findings, positions, and one real patient through the rooms of ingestion."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.simulations.datasets.prostatex import FindingRow, list_files, read_findings
from tests.simulations.datasets import layouts
from tests.simulations.datasets.layouts import DICOM_GRID, SEQUENCES
from tests.simulations.dicom.calibration_study import Calibration

HEADER = "ProxID,fid,pos,zone,ClinSig\n"


def write(root: Path, study: Calibration) -> None:
    """ProstateX-0000 with csPCa, -0001 without, -0002 of the test table, -0003 of none."""
    for number in range(4):
        folder = root / "PROSTATEx" / f"ProstateX-{number:04d}" / f"07-0{number + 1}-2011-NA-MR prostaat-57952"
        shutil.copytree(study.folder, folder)
    x, y, z = study.tubes[0][1]
    lines = [  # (ProxID, fid) repeats, as in the published table
        f"ProstateX-0000,1,{x} {y} {z},PZ,TRUE",
        f"ProstateX-0000,1,{x:.2f} {y:.2f} {z + 3e-7:.7f},AS,FALSE",
        f"ProstateX-0001,1,{x} {y} {z},TZ,FALSE",
    ]
    (root / "ProstateX-Findings-Train.csv").write_text("\n".join(["ProxID,fid,pos,zone,ClinSig", *lines]) + "\n")
    (root / "ProstateX-Findings-Test.csv").write_text(f"ProxID,fid,pos,zone\nProstateX-0002,1,{x} {y} {z},PZ\n")


def load(root, **options):
    return {case[0].case_id: case for case in layouts.load("prostatex", root, DICOM_GRID, SEQUENCES, **options)}


class TestFindings:
    def test_labels_by_hand(self, written):
        """TRUE in any finding is csPCa, FALSE in all is none, no ClinSig and no finding are unknown."""
        labels = {study.record.case_id: study.record.cspca for study in list_files(written("prostatex"))}
        assert list(labels.values()) == [True, False, None, None]
        assert next(iter(labels)) == "ProstateX-0000_07-01-2011"

    @pytest.mark.parametrize(
        ("cells", "label"),
        [
            (("FALSE", "TRUE"), True),
            (("FALSE", "False"), False),
            (("FALSE", ""), None),
            (("TRUE", ""), True),
            ((), None),
        ],
    )
    def test_the_label_of_a_patient_is_that_of_all_findings(self, copied, cells, label):
        root = copied("prostatex")
        rows = "".join(f"ProstateX-0002,{number},1 2 3,PZ,{cell}\n" for number, cell in enumerate(cells))
        (root / "ProstateX-Findings-Train.csv").write_text(HEADER + rows)
        (root / "ProstateX-Findings-Test.csv").unlink()
        assert [study.record.cspca for study in list_files(root)] == [None, None, label, None]

    def test_only_a_study_without_cancer_has_a_lesion_mask_and_it_is_blank(self, written):
        cases = load(written("prostatex")).values()
        assert [record.masks for record, _, _ in cases] == [(), ("lesion",), (), ()]
        assert not any(masks.any() for _, _, masks in cases)

    def test_a_patient_and_fid_may_repeat(self, written):
        assert len(read_findings(written("prostatex"))["ProstateX-0000"]) == 2

    def test_positions_are_x_y_z(self):
        row = FindingRow(ProxID="ProstateX-0000", pos="25.7457 31.8707 -3.8511e1")
        assert row.position_mm == pytest.approx((25.7457, 31.8707, -38.511))

    def test_findings_off_the_t2_are_of_another_release(self, copied):
        """All of them: of a patient with two studies, some findings are the other's."""
        root = copied("prostatex")
        path = root / "ProstateX-Findings-Train.csv"
        text = path.read_text() + "ProstateX-0001,2,500 0 0,PZ,FALSE\n"
        path.write_text(text)
        assert len(load(root)) == 4
        path.write_text(text.replace("ProstateX-0001,1,", "ProstateX-0009,1,"))
        errors = []
        assert len(load(root, on_error=errors.append)) == 3
        assert str(errors[0]).startswith("LABEL_CONFLICT case=ProstateX-0001_07-02-2011: expected a finding of")

    @pytest.mark.parametrize(
        ("line", "column"),
        [
            ("ProstateX-1,1,1 2 3,PZ,TRUE", "ProxID"),
            ("ProstateX-0001,1,1 2,PZ,TRUE", "pos"),
            ("ProstateX-0001,1,1 2 nan,PZ,TRUE", "pos"),
            ("ProstateX-0001,1,1 2 3,XZ,TRUE", "zone"),
            ("ProstateX-0001,1,1 2 3,PZ,MAYBE", "ClinSig"),
        ],
    )
    def test_a_wrong_cell_is_named(self, copied, line, column):
        root = copied("prostatex")
        (root / "ProstateX-Findings-Train.csv").write_text(HEADER + line + "\n")
        with pytest.raises(DataError, match=rf"^ProstateX-Findings-Train.csv: line 2, column {column}: expected"):
            list_files(root)


class TestTree:
    def test_the_table_may_lie_in_a_folder_of_its_own_and_the_patients_in_the_root(self, copied, tmp_path):
        root = copied("prostatex")
        (root / "PROSTATEx" / "Train").mkdir()
        (root / "ProstateX-Findings-Train.csv").rename(root / "PROSTATEx" / "Train" / "ProstateX-Findings-Train.csv")
        assert len(list_files(root / "PROSTATEx")) == 4

    def test_no_table(self, copied):
        root = copied("prostatex")
        (root / "ProstateX-Findings-Train.csv").unlink()
        with pytest.raises(DataError, match=r"expected ProstateX-Findings-Train\.csv .* cancerimagingarchive"):
            list_files(root)

    def test_no_patients(self, copied):
        root = copied("prostatex")
        shutil.rmtree(root / "PROSTATEx")
        with pytest.raises(DataError, match=r"expected ProstateX-NNNN/<date>/<series>/\*\.dcm .* NBIA"):
            list_files(root)

    def test_a_folder_without_a_date_and_a_study_twice(self, copied):
        root = copied("prostatex")
        patient = root / "PROSTATEx" / "ProstateX-0003"
        (patient / "old").mkdir()
        with pytest.raises(DataError, match=r"ProstateX-0003: expected folders named mm-dd-yyyy\.\.\., found old"):
            list_files(root)
        (patient / "old").rename(patient / "07-04-2011-again")
        with pytest.raises(
            DataError, match=r"expected every study in one folder, found two of ProstateX-0003_07-04-2011"
        ):
            list_files(root)

    def test_a_study_without_an_adc_map_or_low_b_values(self, copied):
        root = copied("prostatex")
        (study,) = (root / "PROSTATEx" / "ProstateX-0000").iterdir()
        for series in sorted(study.iterdir())[1:]:
            shutil.rmtree(series)
        errors = []
        assert len(load(root, on_error=errors.append)) == 3
        assert str(errors[0]).startswith("NO_ADC case=ProstateX-0000_07-01-2011: expected an ADC map or b-values")
        record, image, _ = load(root, allow_missing=("adc", "hbv"))["ProstateX-0000_07-01-2011"]
        assert tuple(record.sequences) == ("t2w",)
        assert not image[1:].any()

    def test_a_study_without_a_t2(self, copied):
        root = copied("prostatex")
        (study,) = (root / "PROSTATEx" / "ProstateX-0000").iterdir()
        shutil.rmtree(min(study.iterdir()))
        errors = []
        assert len(load(root, on_error=errors.append)) == 3
        assert str(errors[0]).startswith("NO_T2 case=ProstateX-0000_07-01-2011: expected an axial T2W series")


@pytest.fixture(scope="session")
def real_root(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real study and the table of findings, laid out as a download."""
    parts = (data_folder / "prostatex_dicom", data_folder / "prostatex_meta")
    if not all(part.is_dir() for part in parts):
        pytest.skip(f"no prostatex_dicom/ and prostatex_meta/ in {data_folder}")
    root = tmp_path_factory.mktemp("prostatex")
    (root / "PROSTATEx").symlink_to(parts[0])
    (root / "ProstateX-Findings-Train.csv").symlink_to(parts[1] / "ProstateX-Findings-Train.reconstructed.csv")
    return root


@pytest.mark.data
class TestRealPatient:
    FULL = Grid((3.0, 0.5, 0.5), (20, 256, 256))

    def test_comes_with_label_and_sources(self, real_root):
        ((record, image, _),) = layouts.load("prostatex", real_root, self.FULL, SEQUENCES)
        assert (record.case_id, record.cspca, record.center) == ("ProstateX-0000_07-07-2011", True, "RUMC")
        assert record.source == "prostatex"
        assert (record.sequences["t2w"], record.sequences["adc"]) == ("acquired", "vendor map")
        assert record.sequences["hbv"].startswith("scanner-calculated")
        assert np.isfinite(image).all()

    def test_its_finding_is_the_lesion_pi_cai_delineates(self, real_root, data_folder):
        """pos is LPS: the point lies in (or within 3 mm of) the lesion mask of the same study in PI-CAI."""
        (finding,) = read_findings(real_root)["ProstateX-0000"]
        folder = data_folder / "picai_layout/labels/csPCa_lesion_delineations/human_expert/resampled"
        mask = sitk.ReadImage(str(folder / "11373_1001396.nii.gz"))
        voxels = np.argwhere(sitk.GetArrayFromImage(mask))[:, ::-1].tolist()
        points = np.array([mask.TransformIndexToPhysicalPoint(voxel) for voxel in voxels])
        assert np.linalg.norm(points - finding.position_mm, axis=1).min() < 3

    def test_the_t2_has_the_fingerprint_of_the_same_study_in_pi_cai_and_of_no_other(self, real_root, data_folder):
        ((record, _, _),) = layouts.load("prostatex", real_root, self.FULL, ("t2w",))
        others = layouts.load("picai", data_folder / "picai_layout", self.FULL, ("t2w",))
        same = {other.case_id for other, _, _ in others if other.fingerprint == record.fingerprint}
        assert same == {"11373_1001396"}

    def test_the_whole_table_is_read(self, real_root, data_folder):
        findings = read_findings(real_root)
        assert (len(findings), sum(map(len, findings.values()))) == (204, 330)
        with (data_folder / "prostatex_meta/ProstateX-Findings-Train.reconstructed.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len({(row["ProxID"], row["fid"]) for row in rows}) < len(rows)
        positive = {row["ProxID"] for row in rows if row["ClinSig"] == "TRUE"}
        assert {patient for patient, own in findings.items() if any(each.ClinSig == "TRUE" for each in own)} == positive
