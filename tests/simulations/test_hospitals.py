"""Emulated hospitals: the cache, interruption, and the pooled folder."""

from pathlib import Path

import pytest

from prostafed.client.site import read_site
from prostafed.common.imaging.folds import read_splits, split_cases
from prostafed.common.study import Study
from prostafed.simulations.federation import Federation, PhantomSite
from prostafed.simulations.hospitals import prepare_hospital, write_pooled_folder, write_site_folder


def test_prepared_cases_are_taken_from_the_cache(study: Study, federation: Federation, cache: Path) -> None:
    generated: list[int] = []
    first = prepare_hospital(federation.site[0], study, cache, lambda site, done, count: None)
    again = prepare_hospital(federation.site[0], study, cache, lambda site, done, count: generated.append(done))
    assert (again.fingerprint, generated) == (first.fingerprint, [])
    other = prepare_hospital(federation.site[0], study.model_copy(update={"seed": 9}), cache, lambda *_: None)
    assert other.fingerprint != first.fingerprint


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
    site = read_site(write_pooled_folder(tmp_path / "pooled", hospitals, study))
    assert site.splits is not None
    from prostafed.common.imaging.case_folder import open_case_folder

    pooled = open_case_folder(site.cases)
    tested = {pooled.records[index].case_id for index in read_splits(site.splits, pooled.records)["test"]}
    expected = {
        hospital.cases.records[index].case_id
        for hospital in hospitals
        for index in split_cases(hospital.cases.records, study.seed, 0.2, 0.3)["test"]
    }
    assert tested == expected
    assert len(pooled.records) == 20


def test_a_site_folder_is_a_real_sites_folder(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    hospital = prepare_hospital(federation.site[0], study, cache, lambda *_: None)
    site = read_site(write_site_folder(tmp_path / "north", hospital))
    assert (site.name, site.cases) == ("north", hospital.cases.folder)
