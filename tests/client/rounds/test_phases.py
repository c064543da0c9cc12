"""What a round trains, and from which seed."""

from dataclasses import replace
from pathlib import Path

from prostafed.client.rounds.phases import list_phases
from prostafed.client.rounds.starting import begin_round
from tests.client.tiny_site import FINETUNE, ask, make_study, open_site

ALTERNATE = {**FINETUNE, "mode": "alternate", "head_epochs": 1}
DITTO = {**FINETUNE, "aggregate": "ditto"}


def test_every_study_site_stage_round_and_phase_has_a_seed_of_its_own(tmp_path: Path) -> None:
    seeds = []
    for number, study in enumerate((make_study(ALTERNATE, DITTO), make_study(ALTERNATE, DITTO, seed=8))):
        place = open_site(tmp_path / str(number), study)
        for name in ("north", "south"):
            named = replace(place, site=place.site.model_copy(update={"name": name}))
            for stage in (1, 2):
                for round_number in (1, 2):
                    request = ask(study, round_number, stage=stage)
                    seeds += [each.settings.seed for each in list_phases(named, request, begin_round(named, request))]
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 2 * 2 * 2
