"""Evaluations: recorded, with a quorum, asked again where somebody is missing, and taken up where a run was stopped."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.metrics.histogram_floats import scores_to_floats
from prostafed.common.metrics.histograms import bin_scores
from prostafed.common.tensors import hash_tensors
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.exchange.exchange import Exchange, OnReply
from prostafed.server.records.read import read_evaluations, read_metrics, read_rounds
from prostafed.server.records.write import measure_exchanges, write_run_record
from tests.server.records.ledger_lines import read_ledger
from tests.server.run.test_stages import SITES, STUDY, Sites, run, stop_at, with_round

Asked = tuple[Request, list[str], int]


class Judging(Sites):
    """Sites that answer evaluations with histograms; `fails` says who refuses with which code, each time it is asked,
    `spoil` what becomes of an answer.
    """

    def __init__(
        self,
        fails: Callable[[Request, int], dict[str, str]] = lambda request, time: {},
        spoil: Callable[[str, dict[str, float]], dict[str, float]] = lambda site, metrics: metrics,
        there: Callable[[int], list[str]] = lambda time: SITES,
    ) -> None:
        super().__init__(there=there)
        self.fails, self.spoil = fails, spoil
        self.evaluations: list[Asked] = []

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
        if request.action == "train":
            return super().ask(request, sites, on_reply, close_after)
        self.evaluations.append((request, list(sites), close_after))
        refusals = self.fails(request, len(self.evaluations))
        exchange = Exchange(bytes_down=36, bytes_up=0)
        for site in sites:
            if site in refusals:
                exchange.rejections.append({"site": site, "code": refusals[site], "text": "refused"})
                continue
            metrics = {f"{split}/{name}": 0.75 for split in request.splits for name in ("auroc", "n")}
            if "test" in request.splits:
                metrics |= {f"test/{name}": value for name, value in histogram(site).items()}
            try:
                on_reply(site, Reply(site, cases=10, metrics=self.spoil(site, metrics)))
            except RejectedError as error:
                exchange.rejections.append({"site": site, "code": error.code, "text": str(error)})
                continue
            exchange.replies.append(site)
        return exchange


def histogram(site: str) -> dict[str, float]:
    generator = np.random.default_rng(len(site))
    labels = generator.random(200) < 0.4
    found = bin_scores(labels, generator.random(200) * 0.5 + labels * 0.4)
    assert found is not None
    return scores_to_floats(found)


def south_fails(times: int) -> Callable[[Request, int], dict[str, str]]:
    """South is out of memory the first so many times the test split is asked for."""
    asked: list[Request] = []

    def fails(request: Request, time: int) -> dict[str, str]:
        if "test" not in request.splits:
            return {}
        asked.append(request)
        return {"south": "MEMORY"} if len(asked) <= times else {}

    return fails


def list_tested(folder: Path) -> set[str]:
    return {row.site for row in read_metrics(folder) if row.split == "test"}


def pooled(folder: Path) -> set[tuple[str, ...]]:
    return {tuple(row["sites"]) for row in json.loads((folder / "all_patients.json").read_text())}


def test_every_exchange_of_an_evaluation_is_recorded(tmp_path: Path) -> None:
    run(tmp_path, Judging())
    lines = read_evaluations(tmp_path)
    assert [(line.round, line.attempt, list(line.splits), line.last) for line in lines] == [
        (2, 1, ["validation"], False),
        (3, 1, ["validation", "test"], True),
    ]
    for line in lines:
        assert (line.stage, list(line.participants), list(line.replies), list(line.rejections)) == (2, SITES, SITES, [])
        assert line.seconds >= 0
        assert (line.bytes_down, line.study_hash) == (36, STUDY.hash())
    assert list_tested(tmp_path) == set(SITES)
    assert pooled(tmp_path) == {tuple(SITES)}
    named = {row.metric for row in read_metrics(tmp_path) if row.split == "test"}
    assert named == {"auroc", "n"}, "histograms are no rows"


def test_a_site_missing_from_the_last_evaluation_is_asked_again_for_the_very_same(tmp_path: Path) -> None:
    sites = Judging(south_fails(2))
    run(tmp_path, sites)
    last = [each for each in sites.evaluations if "test" in each[0].splits]
    assert [asked for _, asked, _ in last] == [SITES, ["south"], ["south"]]
    assert len({(each.round, each.splits, hash_tensors(each.tensors)) for each, _, _ in last}) == 1
    assert list_tested(tmp_path) == set(SITES)
    assert pooled(tmp_path) == {tuple(SITES)}, "what north said before counts"
    assert [list(line.rejections) for line in read_evaluations(tmp_path) if line.last][-1] == []
    assert not [line for line in read_ledger(tmp_path) if line.event == "missing"]


def test_who_stays_missing_is_in_record_and_ledger(tmp_path: Path) -> None:
    sites = Judging(south_fails(99))
    run(tmp_path, sites, with_round(quorum=1, retries=2))
    assert sum("test" in each.splits for each, _, _ in sites.evaluations) == 3
    last = read_evaluations(tmp_path)[-1]
    assert (last.attempt, list(last.rejections)) == (3, [{"site": "south", "code": "MEMORY", "text": "refused"}])
    (missing,) = [line for line in read_ledger(tmp_path) if line.event == "missing"]
    assert (missing.site, missing.stage, missing.round) == ("south", 2, 3)
    assert missing.text.startswith("MEMORY")
    assert list_tested(tmp_path) == {"north"}


def test_a_finished_run_taken_up_again_asks_who_is_missing_and_nobody_else(tmp_path: Path) -> None:
    study = with_round(quorum=1, retries=1)
    run(tmp_path, Judging(south_fails(99)), study)
    again = Judging()
    run(tmp_path, again, study)
    assert again.asked == [], "no round is asked for"
    assert [asked for _, asked, _ in again.evaluations] == [["south"]]
    assert list_tested(tmp_path) == set(SITES)
    run(tmp_path / "whole", Judging(), study)
    for folder in (tmp_path, tmp_path / "whole"):
        assert pooled(folder) == {tuple(SITES)}
    assert read_metrics(tmp_path) == read_metrics(tmp_path / "whole")
    done = Judging()
    run(tmp_path, done, study)
    assert done.evaluations == [], "nobody is missing any more"


def test_the_model_of_a_round_is_kept_before_it_is_evaluated(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Sites(stop_at(2, 2, "evaluate")))
    assert [(row.stage, row.round) for row in read_rounds(tmp_path)][-1] == (2, 2)
    rest = Judging()
    run(tmp_path, rest)
    assert [(each.round, each.splits) for each, _, _ in rest.evaluations] == [
        (2, ("validation",)),
        (3, ("validation", "test")),
    ]
    assert rest.asked == [("train", 2, 3, ())]


@pytest.mark.parametrize("number", [2, 3])
def test_below_the_quorum_a_run_stops_and_goes_on_with_the_evaluation(tmp_path: Path, number: int) -> None:
    sites = Judging(lambda request, time: {"south": "MEMORY"} if request.round == number else {})
    study = with_round(quorum=2, retries=1)
    with pytest.raises(RoundError, match=rf"evaluation after round {number} of stage 2 had 1 usable.*south: MEMORY"):
        run(tmp_path, sites, study)
    assert sum(each.round == number for each, _, _ in sites.evaluations) == (1 if number == 2 else 2)
    assert read_ledger(tmp_path)[-1].event == "not-evaluated"
    rest = Judging()
    run(tmp_path, rest, study)
    assert [asked for each, asked, _ in rest.evaluations if each.round == number] == [["south"]]
    assert [each for each in rest.asked if each[2] <= number] == [], "no round is trained again"


def test_below_the_quorum_an_evaluation_is_tried_again_where_the_study_says_so(tmp_path: Path) -> None:
    failed = Judging(lambda request, time: {"south": "MEMORY"} if time == 1 else {})
    run(tmp_path, failed, with_round(quorum=2, below_quorum="retry", retries=1))
    assert [(line.round, line.attempt) for line in read_evaluations(tmp_path)] == [(2, 1), (2, 2), (3, 1)]


def test_enough_closes_every_evaluation_but_the_last(tmp_path: Path) -> None:
    sites = Judging()
    run(tmp_path, sites, with_round(quorum=1, close_after=1))
    assert [(each.round, close_after) for each, _, close_after in sites.evaluations] == [(2, 1), (3, 0)]


def test_one_that_left_after_taking_part_is_missing(tmp_path: Path) -> None:
    # asked at the start and before each of the five rounds; south is gone before the last and does not come back
    run(tmp_path, Judging(there=lambda time: SITES if time < 6 else ["north"]), with_round(quorum=1, retries=1))
    last = read_evaluations(tmp_path)[-1]
    assert list(last.rejections) == [{"site": "south", "code": "NOT_THERE", "text": "not connected"}]
    assert [line.site for line in read_ledger(tmp_path) if line.event == "missing"] == ["south"]


def test_one_that_comes_back_is_evaluated(tmp_path: Path) -> None:
    run(tmp_path, Judging(there=lambda time: ["north"] if time == 6 else SITES), with_round(quorum=1))
    assert list_tested(tmp_path) == set(SITES)


def test_an_impossible_histogram_costs_that_reply_only(tmp_path: Path) -> None:
    def spoil(site: str, metrics: dict[str, float]) -> dict[str, float]:
        broken = next((name for name in metrics if "histogram" in name), None)
        return {**metrics, broken: -1.0} if broken and site == "south" else metrics

    run(tmp_path, Judging(spoil=spoil), with_round(quorum=1, retries=1))
    codes = [[entry["code"] for entry in line.rejections] for line in read_evaluations(tmp_path)]
    assert codes == [[], ["WRONG_HISTOGRAM"], ["WRONG_HISTOGRAM"]]
    assert list_tested(tmp_path) == {"north"}


def test_metrics_of_splits_nobody_asked_for_are_passed_over(tmp_path: Path) -> None:
    run(tmp_path, Judging(spoil=lambda site, metrics: {**metrics, "train/loss": 1e9, "test/auroc": 0.5}))
    rows = read_metrics(tmp_path)
    assert {row.round for row in rows if row.split == "test"} == {3}
    assert all(row.value < 1e9 for row in rows)


def test_bytes_of_evaluations_are_counted(tmp_path: Path) -> None:
    run(tmp_path, Judging())
    write_run_record(tmp_path, "finished", ended=True, **measure_exchanges(tmp_path))
    rounds, record = read_rounds(tmp_path), json.loads((tmp_path / "run.json").read_text())
    assert record["bytes"]["down"] == sum(row.bytes_down for row in rounds) + 2 * 36


def test_who_answers_as_another_is_in_the_ledger_at_once(tmp_path: Path) -> None:
    class Posing(Judging):
        def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
            exchange = super().ask(request, sites, on_reply, close_after)
            for entry in exchange.rejections:
                entry["code"] = "WRONG_NODE" if request.action == "evaluate" else "WRONG_NAME"
            return exchange

    sites = Posing(south_fails(1))
    sites.before = lambda request: {"south"} if (request.stage, request.round) == (1, 2) else set()
    run(tmp_path, sites, with_round(quorum=1, retries=1))
    refused = [line for line in read_ledger(tmp_path) if line.event == "refused"]
    assert [(line.stage, line.round, line.site, line.text[:10]) for line in refused] == [
        (1, 2, "south", "WRONG_NAME"),
        (2, 3, "south", "WRONG_NODE"),
    ]
