"""A comparison over seeds: training differs, the patients do not, as its page says."""

from pathlib import Path

from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.study import Study
from prostafed.simulations.comparison.cells import vary
from prostafed.simulations.comparison.page import write_page
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.federation.hospitals import prepare_hospital
from prostafed.simulations.run.arms import plan_arms


def test_every_seed_trains_and_tests_on_the_same_patients(
    study: Study, federation: Federation, cache: Path, tmp_path: Path
) -> None:
    found = []
    for cell in vary(study, {}, seeds=3):
        hospitals = [prepare_hospital(site, cell.study, cache, lambda *_: None) for site in federation.site]
        splits = {
            (arm.run, split, cases.records[index].case_id)
            for arm in plan_arms(cell.study, hospitals, tmp_path / cell.name)
            for workplace in [open_workplace(file, arm.study.canonical()) for file in arm.site_files]
            for cases in [workplace.cases]
            for split, indices in workplace.splits.items()
            for index in indices
        }
        found.append(([hospital.fingerprint for hospital in hospitals], splits))
    assert found[0] == found[1] == found[2]
    page = write_page(tmp_path, [], 3, generated=True, command="")
    assert "That range says how far runs differ on the same patients" in " ".join(page.read_text().split())
