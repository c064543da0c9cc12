"""What a round trains, and from which seed."""

from dataclasses import replace
from pathlib import Path

from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.phases import list_phases
from prostafed.client.rounds.starting import begin_round
from prostafed.client.training.loop import decayed
from prostafed.client.training.optimisers import Optimisation, Tuning
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
                    job = open_job(named, ask(study, round_number, stage=stage))
                    seeds += [each.settings.seed for each in list_phases(job, begin_round(job))]
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 2 * 2 * 2


def test_a_phase_trains_as_the_study_says_at_the_rate_of_its_round(tmp_path: Path) -> None:
    said = {"epochs": 3, "batch_size": 7, "learning_rate": 0.5, "weight_decay": 0.25, "optimiser": "sgd"}
    study = make_study({**ALTERNATE, **said, "layer_decay": 0.5})
    job = open_job(open_site(tmp_path, study), ask(study, 2))
    tuned = (Tuning(frozen=True), Tuning(frozen_heads=True, layer_decay=0.5))
    for phase, epochs, tuning in zip(list_phases(job, begin_round(job)), (1, 3), tuned, strict=True):
        expected = Optimisation(epochs, 7, decayed(0.5, 2, 3), 0.25, phase.settings.seed, "sgd", tuning)
        assert phase.settings == expected
        assert phase.settings.learning_rate < 0.5


def test_a_rule_adjusts_the_network_it_is_for(tmp_path: Path) -> None:
    for number, (stage, adjusted) in enumerate(
        [
            (FINETUNE, {"shared": False}),
            ({**ALTERNATE, "aggregate": "fedprox"}, {"heads": False, "shared": True}),
            (DITTO, {"shared": False, "personal": True}),
        ]
    ):
        study = make_study(stage)
        job = open_job(open_site(tmp_path / str(number), study), ask(study))
        phases = list_phases(job, begin_round(job))
        assert {phase.name: phase.adjust is not None for phase in phases} == adjusted
