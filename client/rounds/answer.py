"""A site's answer to a request: train or evaluate what was sent with what was kept, and release."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from prostafed.client.gate import ledger
from prostafed.client.gate.admission import require_cohort
from prostafed.client.gate.allowance import allow
from prostafed.client.gate.canaries import audit_run, draw_lots
from prostafed.client.gate.masks import Desk, answer_masks, check_sum, is_summed, make_summand
from prostafed.client.gate.outbox import require_release, require_undeclined
from prostafed.client.gate.release import Released, release
from prostafed.client.gate.telling import counts_few, describe, list_told_splits
from prostafed.client.gate.told import tell_once
from prostafed.client.rounds.job import Job, open_job
from prostafed.client.rounds.local_round import train_round
from prostafed.client.rounds.memory import find_answer, tidy
from prostafed.client.rounds.planning import Plans, open_noise, plan_round
from prostafed.client.rounds.several_processes import train_together
from prostafed.client.rounds.starting import load_network
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.evaluate import assess
from prostafed.common.errors import DataError, RequestError
from prostafed.common.exchange.arrays import NOTHING, Layout
from prostafed.common.exchange.kinds import ABOUT_MASKS
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.exchange.released import COHORT
from prostafed.common.imaging.folds import SPLITS
from prostafed.common.metrics.cohort import count_cohort
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import N
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder, write_text


def answer(workplace: Workplace, request: Request, peers: Mapping[str, str] | None = None) -> Released:
    """Return the site's answer to a request. It is the one exit: whatever is answered passes the gate here. `peers`:
    whose keys the site takes in masked rounds, as a person approved them; None: anybody's.

    Where a patient objects meanwhile, it is answered anew without him.
    """
    while True:
        place = workplace.without_opted_out()
        try:
            reply, payload = _answer(place, request, peers)
            _require_same(place)
        except DataError:  # his cases are gone, or what was made of them is
            if place.opted_out == workplace.without_opted_out().opted_out:
                raise
            continue
        return release(reply, payload, place.bounds(request))


def _require_same(place: Workplace) -> None:
    """Raise DataError where a patient who was counted in objects meanwhile."""
    if place.opted_out != place.without_opted_out().opted_out:
        raise DataError("A patient objects meanwhile. What was made with his cases does not leave.")


def _answer(workplace: Workplace, request: Request, peers: Mapping[str, str] | None) -> tuple[Reply, Layout]:
    """Return the answer, and the tensors that may be in it."""
    if request.action == "train":
        job = open_job(workplace, request)
        payload = allow(workplace.study.canonical(), request.stage).payload  # known before anything is trained
        if not is_summed(workplace.study):
            return _let_go(job, _train(job)), payload
        desk = _open_desk(job, peers)
        check_sum(desk, job.digest)
        return make_summand(desk, _let_go(job, _train(job)), job.digest), payload
    if request.action in ABOUT_MASKS:
        return answer_masks(_open_desk(open_job(workplace, request), peers)), NOTHING
    if request.action == "evaluate":
        return _evaluate(open_job(workplace, request)), NOTHING
    return _introduce(workplace), NOTHING


def _let_go(job: Job, trained: Reply) -> Reply:
    """Return a trained answer that may leave. Where the site file says so, it waits until a person lets it, as it is
    before masks; it is kept meanwhile.
    """
    _require_same(job.workplace)
    if job.workplace.site.privacy.hold:
        require_release(job.workplace.folder, job.request, trained)
    return trained


def _open_desk(job: Job, peers: Mapping[str, str] | None) -> Desk:
    place = job.workplace
    return Desk(job.folder, place.site, place.study, job.request, len(job.chosen), peers)


def _introduce(workplace: Workplace) -> Reply:
    """Return the site's name and, where its site file says so, who its patients are."""
    site, study = workplace.site, workplace.study
    counts: dict[str, float] = {}
    if site.share_cohort:
        vendors = {f"scanner/{vendor}": 1.0 for vendor in site.scanners}
        counts = count_cohort(workplace.cases.records, site.minimum_cell) | vendors
    return Reply(site.name, study.hash(), metrics={f"{COHORT}/{name}": count for name, count in counts.items()})


def _train(job: Job) -> Reply:
    """Train one round; what does not travel is kept on the site's disk before anything is sent.

    A request that was answered before gets the same answer, without training; one whose training was interrupted goes
    on where the site's last checkpoint is.
    """
    place, request = job.workplace, job.request
    require_undeclined(place.folder, request)
    require_cohort(job.learnt, place.site.privacy.minimum_cohort)
    make_folder(job.folder)
    plans = plan_round(job)
    reply = find_answer(job.folder, request, job.key)
    if reply is None:
        rules, promised = place.site.privacy, place.study.privacy.epsilon or 0.0
        limit = ledger.Limit(rules.epsilon_budget, rules.delta, promised)
        ledger.begin(place.folder, _use(job, plans), _list_trained(job), limit)
        tidy(job.folder, request.round)
        hides_patients = place.study.privacy.unit == "patient"
        lots = draw_lots(place.folder, request.run, place.site.privacy.canaries) if hides_patients else ()
        noise = open_noise(job, plans, lots)
        reply = train_round(job, job.machine, noise) if job.machine.ranks == 1 else train_together(job)
    audited = audit_run(place.folder, request.run, place.study.privacy.delta) if plans else None
    ledger.leave(place.folder, _use(job, plans), _list_trained(job), audited)
    return reply


def _use(job: Job, plans: Plans) -> ledger.Use:
    request = job.request
    return ledger.Use(request.study_hash, request.run, request.stage, request.round, job.digest, plans)


def _list_trained(job: Job) -> list[str]:
    """Return the patients whom the round's update depends on. Noise for a site hides what it keeps to itself as well,
    which may come from any of its training patients.
    """
    place = job.workplace
    of_site = place.study.privacy.unit == "site"
    chosen = place.splits["train"] if of_site else job.chosen
    gone = place.opted_out if of_site else ()  # what it keeps may come from who objects since
    return [*(place.cases.records[index].patient_id for index in chosen), *gone]


def _evaluate(job: Job) -> Reply:
    """Evaluate what was sent, with the heads kept after this round; predictions stay at the site, their summary
    leaves. About the test patients one model is answered, and no other.
    """
    _check_splits(job)
    place, splits = job.workplace, job.request.splits
    judged = [place.cases.records[index].patient_id for split in splits for index in place.splits[split]]
    ledger.evaluate(place.folder, _use(job, {}), judged, splits)
    if "test" not in job.request.splits:
        return _assess_splits(job)
    return tell_once(job.workplace.site.memory, job.request, job.digest, lambda: _assess_splits(job))


def _assess_splits(job: Job) -> Reply:
    workplace, request, site, task = job.workplace, job.request, job.workplace.site, job.task
    assert task is not None, "checked"
    network = load_network(job, request.round)
    records, seed = workplace.cases.records, derive_seed(workplace.study.seed, request.stage, site.name, "bootstrap")
    telling = frozenset(SPLITS)  # of the diagnoses of whose patients the site tells
    if site.share_cohort:
        telling = list_told_splits(records, workplace.splits, task.usable, site.minimum_cell)
    metrics, cases = dict[str, float](), 0
    for split in request.splits:
        feed = workplace.feed(workplace.splits[split])
        predictions = assess(network, task, feed, job.stage.batch_size, workplace.machine)
        write_predictions(job.folder / f"predictions-{split}.jsonl", predictions)
        judged = [records[index] for index in workplace.splits[split] if task.usable(records[index])]
        few = counts_few(judged, task.counted, site.minimum_cell) or (task.teaches_cspca and split not in telling)
        told = describe(
            predictions,
            seed,
            site.minimum_cell,
            diagnoses=split in telling,
            histograms=split == "test",
            measures=not few,
        )
        cases += int(told.get(N, 0))
        metrics |= {f"{split}/{name}": value for name, value in told.items()}
    return Reply(site.name, request.study_hash, request.stage, request.round, cases, metrics=metrics)


def write_predictions(path: Path, predictions: Sequence[CasePrediction]) -> None:
    """Write predictions, one JSON object a line."""
    make_folder(path.parent)  # a site that never trained in this stage has none
    write_text(path, "".join(json.dumps(asdict(prediction)) + "\n" for prediction in predictions))


def _check_splits(job: Job) -> None:
    """Raise RequestError for splits that are not judged: of the test patients nothing is told before a stage's last
    round.
    """
    stage, number, asked = job.request.stage, job.request.round, list(job.request.splits)
    if job.task is None:
        raise RequestError(f"Stage {stage} is self-supervised: there is nothing to evaluate.")
    if not asked or sorted(asked) != sorted(set(asked) & set(SPLITS)):
        raise RequestError(f"The request names the splits {asked}; they are among {list(SPLITS)}, each once.")
    rules = job.workplace.site.privacy
    if "train" in asked and (rules.epsilon_budget or job.workplace.study.privacy.unit != "none"):
        raise RequestError("The request asks for training patients, and metrics of them have no noise.")
    if "test" in asked and number != job.stage.rounds:
        raise RequestError(
            f"The request asks for test patients in round {number}; they are for the last one, {job.stage.rounds}."
        )
