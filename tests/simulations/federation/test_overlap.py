"""Patients at two sites: by id, by PI-CAI's table of PROSTATEx patients, by image; and what the run does about them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.imaging.case_folder import CaseFolder
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.study import parse_study
from prostafed.simulations.datasets.fingerprint import SAME_STUDY
from prostafed.simulations.datasets.picai import ID_TABLE
from prostafed.simulations.federation.federation_file import (
    CasesSite,
    DatasetSite,
    Federation,
    PhantomSite,
    SimulatedSite,
)
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital
from prostafed.simulations.federation.overlap import check_overlap, find_same, read_taken_over
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation

GRID = Grid((3.0, 1.0, 1.0), (1, 1, 1))
MakePicai = Callable[..., DatasetSite]


@pytest.fixture
def picai(tmp_path: Path) -> MakePicai:
    """A PI-CAI site whose labels folder holds the table of PROSTATEx patients."""

    def make(name: str, table: str | None = '{"ProstateX-0000_07-07-2011": "11373_1001396"}') -> DatasetSite:
        root = tmp_path / "picai"
        (root / "labels" / "anatomical_delineations").mkdir(parents=True, exist_ok=True)
        if table is not None:
            (root / "labels" / ID_TABLE).parent.mkdir(exist_ok=True)
            (root / "labels" / ID_TABLE).write_text(table)
        return DatasetSite(source="picai", name=name, root=root)

    return make


def make_hospital(site: SimulatedSite, *records: CaseRecord) -> Hospital:
    own = [replace(record, patient_id=f"{site.name}-{record.patient_id}") for record in records]
    return Hospital(site.name, site.source, CaseFolder(Path(), GRID, ("t2w",), tuple(own)), "", ())


def make_record(patient: str, source: str = "picai", fingerprint: str = "") -> CaseRecord:
    return CaseRecord(f"{patient}_1", patient, source=source, fingerprint=fingerprint)


def check(*pairs: tuple[SimulatedSite, tuple[CaseRecord, ...]], allow: bool = True) -> list[str]:
    hospitals = [make_hospital(site, *records) for site, records in pairs]
    return check_overlap(Federation(site=tuple(site for site, _ in pairs), allow_overlap=allow), hospitals)


def make_print(seed: int, flips: int = 0) -> str:
    bits = np.random.default_rng(seed).integers(0, 2, 1584)
    bits[:flips] ^= 1
    return np.packbits(bits).tobytes().hex()


class TestById:
    def test_one_patient_of_two_studies_at_two_sites(self, picai: MakePicai) -> None:
        north = (make_record("1"), replace(make_record("2"), case_id="2_7"))
        south = (replace(make_record("2"), case_id="2_8"), make_record("3"))
        found = check((picai("north"), north), (picai("south"), south))
        assert found == ["Sites 'north' and 'south' share 1 patient: 1 known by id, 0 more by image."]

    def test_nobody_in_common(self, picai: MakePicai) -> None:
        assert check((picai("north"), (make_record("1"),)), (picai("south"), (make_record("2"),)), allow=False) == []

    def test_equal_ids_of_two_sets_are_two_patients(self, picai: MakePicai, tmp_path: Path) -> None:
        other = CasesSite(source="cases", name="other", root=tmp_path)
        assert check((picai("north"), (make_record("1"),)), (other, (make_record("1", "prostate158"),))) == []

    def test_one_site_may_have_a_patient_twice(self, picai: MakePicai) -> None:
        assert check((picai("north"), (make_record("1"), make_record("1")))) == []

    def test_each_two_sites_have_a_sentence(self, picai: MakePicai) -> None:
        records = (make_record("1"), make_record("2"))
        found = check(*((picai(name), records) for name in ("a", "b", "c")))
        assert [text.split(" share ")[0] for text in found] == [f"Sites '{x}' and '{y}'" for x, y in ("ab", "ac", "bc")]
        assert all("share 2 patients: 2 known by id" in text for text in found)

    def test_generated_patients_are_others_in_every_folder(self, picai: MakePicai, tmp_path: Path) -> None:
        records = (make_record("10000", "phantom"),)
        elsewhere = DatasetSite(source="picai", name="south", root=tmp_path)
        assert check((picai("north", None), records), (picai("south", None), records)) != []
        (tmp_path / "labels" / "anatomical_delineations").mkdir(parents=True)
        assert check((picai("north", None), records), (elsewhere, records)) == []
        phantoms = [PhantomSite(source="phantom", name=name, cases=1) for name in ("a", "b")]
        assert check(*((site, records) for site in phantoms)) == []

    def test_pseudonyms_of_hospitals_are_compared_as_they_are(self, tmp_path: Path) -> None:
        sites = [CasesSite(source="cases", name=name, root=tmp_path) for name in ("a", "b")]
        record = make_record("0123456789abcdef", "dicom")
        hospitals = [Hospital(s.name, "cases", CaseFolder(Path(), GRID, ("t2w",), (record,)), "", ()) for s in sites]
        assert len(check_overlap(Federation(site=tuple(sites), allow_overlap=True), hospitals)) == 1


class TestTableOfIds:
    @pytest.fixture
    def prostatex(self, tmp_path: Path) -> DatasetSite:
        return DatasetSite(source="prostatex", name="trial", root=tmp_path)

    def test_a_prostatex_patient_is_found_in_pi_cai(self, picai: MakePicai, prostatex: DatasetSite) -> None:
        ours = (prostatex, (make_record("ProstateX-0000", "prostatex"), make_record("ProstateX-0001", "prostatex")))
        found = check((picai("north"), (make_record("11373"), make_record("1"))), ours)
        assert found == ["Sites 'north' and 'trial' share 1 patient: 1 known by id, 0 more by image."]

    def test_without_the_table_the_image_tells(self, picai: MakePicai, prostatex: DatasetSite) -> None:
        north = (picai("north", None), (make_record("11373", fingerprint=make_print(0)),))
        ours = (prostatex, (make_record("ProstateX-0000", "prostatex", make_print(0, flips=100)),))
        assert check(north, ours) == ["Sites 'north' and 'trial' share 1 patient: 0 known by id, 1 more by image."]

    @pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}', "\N{SNOWMAN}"])
    def test_a_broken_table_is_named(self, picai: MakePicai, text: str) -> None:
        with pytest.raises(DataError, match=r"^ProstateX-mapping\.json: expected ProstateX studies"):
            read_taken_over((picai("north", text),))

    @pytest.mark.data
    def test_the_real_table(self, data_folder: Path) -> None:
        """328 studies of 327 patients: ProstateX-0025 has two, and so has he in PI-CAI."""
        root = data_folder / "picai_labels"
        if not root.is_dir():
            pytest.skip(f"no picai_labels/ in {data_folder}")
        table = read_taken_over((DatasetSite(source="picai", name="a", root=root),))
        assert len(table) == len(set(table.values())) == 327
        for trial, here in (("ProstateX-0000", "11373"), ("ProstateX-0025", "11087")):
            assert table["prostatex", trial] == ("picai", here)


class TestByImage:
    def test_the_threshold_is_a_share_of_bits(self) -> None:
        most = int(SAME_STUDY * 1584)
        assert find_same([make_print(0)], [make_print(1), make_print(0, most), make_print(0, most + 1)]) == [(0, 1)]

    def test_a_blank_fingerprint_is_like_none(self) -> None:
        assert find_same(["", make_print(0)], ["", make_print(0)]) == [(1, 1)]
        assert find_same([""], [make_print(0)]) == []

    def test_a_fingerprint_of_another_release_is_like_none(self) -> None:
        assert find_same([make_print(0)[:-8], "not hexadecimal"], [make_print(0)[:-8], make_print(0)]) == []

    def test_a_patient_known_by_id_is_not_counted_again(self, picai: MakePicai) -> None:
        records = (make_record("1", fingerprint=make_print(0)), make_record("2", fingerprint=make_print(1)))
        south = (records[0], replace(records[1], patient_id="9"))
        found = check((picai("north"), records), (picai("south"), south))
        assert found == ["Sites 'north' and 'south' share 2 patients: 1 known by id, 1 more by image."]


class TestTheRun:
    STUDY = parse_study(
        json.dumps(
            {
                "name": "tiny",
                "data": {"size": [4, 16, 16], "spacing_mm": [3.0, 1.0, 1.0], "test_fraction": 0.5},
                "model": {"width": 4, "resolutions": 2},
                "stage": [{"kind": "pretrain", "method": "restore", "rounds": 1, "batch_size": 1}],
                "arms": {"compare": ["pooled"]},
            }
        )
    )

    @pytest.fixture
    def sites(self, tmp_path: Path) -> tuple[DatasetSite, ...]:
        from tests.simulations.datasets.layouts import find_writer

        find_writer("picai")(tmp_path / "one")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        return tuple(DatasetSite(source="picai", name=name, root=tmp_path / name) for name in ("one", "two"))

    def run(self, federation: Federation, tmp_path: Path) -> Path:
        simulation = Simulation(self.STUDY, federation, tmp_path / "run", tmp_path / "cache")
        return run_simulation(simulation, resume=False, watchers=Watchers())

    def test_it_stops_and_names_the_sites(self, sites: tuple[DatasetSite, ...], tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.run(Federation(site=sites), tmp_path)
        text = str(caught.value)
        assert text.startswith("Sites 'one' and 'two' share 2 patients: 2 known by id")
        assert text.endswith("or write allow_overlap = true in the federation file.")

    def test_allowed_it_runs_to_the_end_pooled_arm_included_and_says_so(
        self, sites: tuple[DatasetSite, ...], tmp_path: Path
    ) -> None:
        self.run(Federation(site=sites, allow_overlap=True), tmp_path)
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["state"] == "finished"
        assert record["overlap"] == ["Sites 'one' and 'two' share 2 patients: 2 known by id, 0 more by image."]

    def test_a_study_under_another_number_is_found_by_its_image(
        self, sites: tuple[DatasetSite, ...], tmp_path: Path
    ) -> None:
        for path in sorted(sites[1].root.rglob("*2_20*")):
            path.rename(path.with_name(path.name.replace("2_20", "7_70")))
        (sites[1].root / "images" / "2").rename(sites[1].root / "images" / "7")
        sheet = sites[1].root / "labels" / "clinical_information" / "marksheet.csv"
        sheet.write_text(sheet.read_text().replace("2,20", "7,70").replace("1,10,0,NO,RUMC\n", ""))
        hospitals = [prepare_hospital(site, self.STUDY, tmp_path / "cache", lambda *_: None) for site in sites]
        with pytest.raises(ConfigurationError, match="share 1 patient: 0 known by id, 1 more by image"):
            check_overlap(Federation(site=sites), hospitals)
