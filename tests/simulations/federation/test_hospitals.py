"""Emulated hospitals: the cache, interruption, and the pooled folder."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from prostafed.client.site.site_file import open_site
from prostafed.common.errors import DataError
from prostafed.common.imaging.folds import read_splits
from prostafed.common.study import Data, Study
from prostafed.common.study.split import split_patients
from prostafed.simulations.federation.federation_file import (
    CasesSite,
    DatasetSite,
    Federation,
    PhantomSite,
)
from prostafed.simulations.federation.hospitals import (
    prepare_hospital,
    write_flipped_cases,
    write_pooled_folder,
    write_site_folder,
)
from tests.simulations.datasets import layouts


def test_prepared_cases_are_taken_from_the_cache(study: Study, federation: Federation, cache: Path) -> None:
    generated: list[int] = []
    first = prepare_hospital(federation.site[0], study, cache, lambda site, done, count: None)
    again = prepare_hospital(federation.site[0], study, cache, lambda site, done, count: generated.append(done))
    assert (again.fingerprint, generated) == (first.fingerprint, [])
    other_study = study.model_copy(update={"seed": 9})
    kept = prepare_hospital(federation.site[0], other_study, cache, lambda site, done, count: generated.append(done))
    assert (kept.fingerprint, generated) == (first.fingerprint, []), "patients are the federation's, not the study's"
    other = prepare_hospital(federation.site[0].model_copy(update={"seed": 9}), study, cache, lambda *_: None)
    assert other.fingerprint != first.fingerprint


def test_an_emulated_hospital_tells_of_however_few_unless_its_federation_says_otherwise(
    study: Study, tmp_path: Path
) -> None:
    site = PhantomSite(source="phantom", name="north", cases=4)
    for minimum, asked in ((1, site), (10, site.model_copy(update={"minimum_cell": 10}))):
        hospital = prepare_hospital(asked, study, tmp_path / "cache", lambda *_: None)
        assert len(list((tmp_path / "cache" / "cases").iterdir())) == 1, "its cases are the same"
        pooled = write_pooled_folder(tmp_path / f"pooled-{minimum}", [hospital], study)
        folder = tmp_path / f"north-{minimum}"
        assert open_site(write_site_folder(folder, hospital)).minimum_cell == minimum
        assert open_site(pooled).minimum_cell == minimum
        write_flipped_cases(folder, hospital, study)
        assert open_site(folder / "site.toml").minimum_cell == minimum


def test_an_interrupted_hospital_goes_on_to_the_same_cases(study: Study, tmp_path: Path) -> None:
    site = PhantomSite(source="phantom", name="north", cases=4)

    def stop(name: str, done: int, count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_hospital(site, study, tmp_path / "a", stop)
    seen: list[int] = []
    resumed = prepare_hospital(site, study, tmp_path / "a", lambda name, done, count: seen.append(done))
    assert len(seen) == 2
    assert resumed.fingerprint == prepare_hospital(site, study, tmp_path / "b", lambda *_: None).fingerprint


def test_pooling_keeps_each_patient_in_the_split_of_the_own_hospital(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    hospitals = [prepare_hospital(site, study, cache, lambda *_: None) for site in federation.site]
    site = open_site(write_pooled_folder(tmp_path / "pooled", hospitals, study))
    assert site.splits is not None
    from prostafed.common.imaging.case_folder import open_case_folder

    pooled = open_case_folder(site.cases)
    tested = {pooled.records[index].case_id for index in read_splits(site.splits, pooled.records)["test"]}
    expected = {
        hospital.cases.records[index].case_id
        for hospital in hospitals
        for index in split_patients(study, hospital.cases.records)["test"]
    }
    assert tested == expected
    assert len(pooled.records) == 20


def test_a_site_folder_is_a_real_sites_folder(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    hospital = prepare_hospital(federation.site[0], study, cache, lambda *_: None)
    site = open_site(write_site_folder(tmp_path / "north", hospital))
    assert (site.name, site.cases) == ("north", hospital.cases.folder)


class TestPublicSets:
    """Sites that take their cases from public sets, at a grid of their own."""

    @pytest.fixture(scope="class")
    def tiny(self, study: Study) -> Study:
        return study.model_copy(update={"data": Data(size=(6, 24, 24), spacing_mm=(3.0, 1.0, 1.0))})

    @pytest.fixture(scope="class")
    def root(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        root = tmp_path_factory.mktemp("public")
        for name in ("picai", "msd", "promise12", "prostate158"):
            (root / name).mkdir()
            layouts.find_writer(name)(root / name)
        return root

    @pytest.mark.parametrize(
        ("site", "cases", "sequences"),
        [
            (DatasetSite(source="picai", name="a", root=Path("picai")), 2, ("t2w", "adc", "hbv")),
            (DatasetSite(source="prostate158", name="a", root=Path("prostate158")), 4, ("t2w", "adc", "hbv")),
            (DatasetSite(source="msd", name="a", root=Path("msd"), center="RUMC"), 3, ("t2w", "adc")),
            (DatasetSite(source="promise12", name="a", root=Path("promise12")), 2, ("t2w",)),
        ],
        ids=lambda value: getattr(value, "source", ""),
    )
    def test_each_is_prepared_with_the_sequences_it_has(
        self, site: DatasetSite, cases: int, sequences: tuple[str, ...], tiny: Study, root: Path, tmp_path: Path
    ) -> None:
        placed = site.model_copy(update={"root": root / site.root})
        allowed = Data(**tiny.data.model_dump() | {"allow_missing": ("adc", "hbv")})
        hospital = prepare_hospital(placed, tiny.model_copy(update={"data": allowed}), tmp_path, lambda *_: None)
        assert (hospital.source, len(hospital.cases.records), hospital.left_out) == (site.source, cases, ())
        for record in hospital.cases.records:
            assert set(record.sequences) == set(sequences)
            assert record.case_id.startswith("a-")
            assert record.patient_id.startswith("a-")
        if sequences != tiny.data.sequences:
            with pytest.raises(DataError, match=r"has no .* allow_missing = "):
                prepare_hospital(placed, tiny, tmp_path, lambda *_: None)

    def test_a_case_prepared_for_a_study_that_allows_more_does_not_enter_one_that_does_not(
        self, tiny: Study, root: Path, tmp_path: Path
    ) -> None:
        """The gate: the same folder of cases, two studies."""
        shutil.copytree(root / "picai", tmp_path / "picai")
        (tmp_path / "picai/images/1/1_10_adc.mha").unlink()
        allowed = Data(**tiny.data.model_dump() | {"allow_missing": ("adc",)})
        lenient = tiny.model_copy(update={"data": allowed})
        site = DatasetSite(source="picai", name="a", root=tmp_path / "picai")
        hospital = prepare_hospital(site, lenient, tmp_path, lambda *_: None)
        assert ["adc" in record.sequences for record in hospital.cases.records] == [False, True]
        indexed = CasesSite(source="cases", name="b", root=hospital.cases.folder)
        admitted = prepare_hospital(indexed, tiny, tmp_path, lambda *_: None)
        assert [record.case_id for record in admitted.cases.records] == ["a-2_20"]
        pooled = open_site(write_pooled_folder(tmp_path / "pooled", [admitted], tiny))
        assert [path.stem for path in sorted(pooled.cases.glob("*.safetensors"))] == ["a-2_20"]
        strict = prepare_hospital(site, tiny, tmp_path, lambda *_: None)
        assert strict.left_out[0].startswith("NO_ADC case=1_10: expected images/1/1_10_adc.mha")

    def test_centre_and_fold_choose(self, tiny: Study, root: Path, tmp_path: Path) -> None:
        def ids(**filters: object) -> list[str]:
            site = DatasetSite(source="picai", name="a", root=root / "picai", **filters)
            return [each.case_id for each in prepare_hospital(site, tiny, tmp_path, lambda *_: None).cases.records]

        assert ids(center="RUMC") == ids(fold=1) == ["a-1_10"]
        assert ids(center="ZGT") == ids(fold=0) == ["a-2_20"]
        with pytest.raises(DataError, match=r"picai_splits\.json: expected a list of folds .* found no fold 2"):
            ids(fold=2)
        with pytest.raises(
            DataError, match=r"no study of center 'PCNN'; did you mean|no study of center 'PCNN'\. Valid: R"
        ):
            ids(center="PCNN")
        with pytest.raises(ValidationError, match=r"no center 'UMCG'"):
            ids(center="UMCG")
