"""A hospital attacks a model with its own patients: those it trained on, and those it kept for testing."""

from datetime import UTC, datetime
from pathlib import Path

from prostafed.client.attack.losses import measure_losses, negate
from prostafed.client.rounds.memory import recall
from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.common.bundle.network import load_forward
from prostafed.common.bundle.record import read_bundle
from prostafed.common.errors import CheckpointError, DataError
from prostafed.common.exchange.messages import MOST_ROUNDS
from prostafed.common.imaging.label_share import choose_labelled
from prostafed.common.privacy.attacks.finding import Findings, write_findings
from prostafed.common.privacy.attacks.membership import FEWEST, judge_scores
from prostafed.common.shell.files import make_folder

FOLDER = "attacks"  # beside the site file: HASH.json, by study
NOT_HERE = "It needs what only a simulation holds: prostafed-sim attack."


def attack_bundle(site_file: Path, folder: Path, seed: int) -> Findings:
    """Return how well the model of a bundle tells the site's training patients from its test patients, and keep it in
    attacks/HASH.json beside the site file.

    Raises DataError where the site took no part in the study, so that nobody here was trained on, or has too few
    patients; else as `read_bundle` and `open_workplace`.
    """
    bundle = read_bundle(folder)
    study, number = bundle.study, bundle.record.stage
    place = open_workplace(site_file.resolve(), study.canonical())
    if not _took_part(place, number):
        raise DataError(
            f"{place.site.memory} holds nothing of the study {study.name} ({study.hash()[:12]}): this site trained "
            "nobody for it. Attack a model that this site took part in."
        )
    stage, forward = study.stage[number - 1], load_forward(bundle, place.device)
    assert stage.kind == "finetune", "a bundle is of such a stage"
    task, records = forward.task, place.cases.records
    members = choose_labelled(records, place.splits["train"], task.usable, stage.labels, study.seed)
    others = [index for index in place.splits["test"] if task.usable(records[index])]
    sides = [len({records[index].patient_id for index in side}) for side in (members, others)]
    if min(sides) < FEWEST:
        raise DataError(
            f"Expected {FEWEST} training and {FEWEST} test patients or more that the task {bundle.task} can use, found "
            f"{sides[0]} and {sides[1]}."
        )
    scores = [negate(measure_losses(forward.network, task, place.feed(side))) for side in (members, others)]
    found = Findings(
        run=bundle.record.name,
        study_hash=study.hash(),
        model_sha256=bundle.model_sha256,
        seed=seed,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        generated=any(records[index].generated for index in (*members, *others)),
        findings=judge_scores("loss", place.site.name, scores[0], scores[1], seed),
        left_out=dict.fromkeys(("differencing", "histograms", "inversion", "labels", "origin"), NOT_HERE),
    )
    write_findings(make_folder(site_file.resolve().parent / FOLDER) / f"{study.hash()}.json", found)
    return found


def _took_part(place: Workplace, stage: int) -> bool:
    """Return whether the site's memory holds something of the study's stage."""
    for folder in place.site.memory.glob(f"*/stage-{stage}"):
        try:
            if recall(folder, MOST_ROUNDS, place.study.hash()) is not None:
                return True
        except CheckpointError:  # another study's, or damaged
            continue
    return False
