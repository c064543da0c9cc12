"""The loop over stages and rounds, with sites that only add: resume, quorum, records."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import CheckpointError, ConfigurationError, RoundError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.common.study import Study, parse_study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import group_of, hash_tensors, read_tensors
from prostafed.server.exchange.exchange import Exchange, OnReply
from prostafed.server.records.ledger import Entry, Ledger
from prostafed.server.records.read import read_evaluations, read_metrics, read_rounds
from prostafed.server.records.write import locked, open_run
from prostafed.server.run.checkpoints import read_run_state
from prostafed.server.run.stages import run_stages
from tests.server.records.ledger_lines import read_ledger

STUDY = parse_study(
    """{"name": "tiny", "seed": 3, "data": {"size": [4, 8, 8], "spacing_mm": [3.0, 2.0, 2.0]},
        "model": {"width": 2, "resolutions": 2}, "round": {"quorum": 2},
        "stage": [{"kind": "pretrain", "rounds": 2},
                  {"kind": "finetune", "task": "classify", "rounds": 3, "evaluate_every": 2}]}"""
)
SITES = ["north", "south"]


class Sites:
    """Two sites that add 1 and 3 to every tensor; `before` may stop the run or lose a site, `there` says who is
    there each time that is asked.
    """

    def __init__(
        self,
        before: Callable[[Request], set[str]] = lambda request: set(),
        there: Callable[[int], list[str]] = lambda time: SITES,
    ) -> None:
        self.before, self.there, self.asked, self.times = before, there, [], 0
        self.cohorts = {"north": {"csPCa/yes": 30.0}}
        self.refused: dict[str, str] = {}
        self.enrolled: dict[str, str] = {}

    def present(self) -> list[str]:
        self.times += 1
        return sorted(self.there(self.times))

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
        lost = self.before(request)
        self.asked.append((request.action, request.stage, request.round, request.splits))
        answering = [site for site in sites if site not in lost]
        for site in answering:
            step = np.float32(1 if site == "north" else 3)
            reply = Reply(site, cases=10, metrics={"train/loss": 0.5})
            if request.action == "train":
                changed = {name: array + step for name, array in request.tensors.items()}
                reply = replace(reply, tensors=changed, metrics={"train/loss": 0.5, "train/steps": 1.0})
            else:
                reply = replace(
                    reply, metrics={f"{split}/{name}": 0.75 for split in request.splits for name in ("auroc", "n")}
                )
            on_reply(site, reply)
        gone = [{"site": site, "code": "DEADLINE", "text": "no answer"} for site in sorted(lost)]
        return Exchange(answering, gone, bytes_down=2, bytes_up=1)


def stop_at(stage: int, round_number: int, action: str = "train") -> Callable[[Request], set[str]]:
    def before(request: Request) -> set[str]:
        if (request.stage, request.round, request.action) == (stage, round_number, action):
            raise KeyboardInterrupt
        return set()

    return before


def untimed(folder: Path) -> list[dict[str, object]]:
    return [row.changed(seconds=0.0) for row in read_rounds(folder)]


def run(folder: Path, sites: Sites, study: Study = STUDY) -> dict[str, np.ndarray]:
    return run_stages(study, "run", sites, folder)


def test_rounds_are_asked_for_in_order_and_evaluated_as_the_study_says(tmp_path: Path) -> None:
    sites = Sites()
    run(tmp_path, sites)
    train = [("train", 1, 1, ()), ("train", 1, 2, ()), ("train", 2, 1, ()), ("train", 2, 2, ())]
    assert sites.asked == [
        *train,
        ("evaluate", 2, 2, ("validation",)),
        ("train", 2, 3, ()),
        ("evaluate", 2, 3, ("validation", "test")),
    ]


def test_records_metrics_and_model_are_written(tmp_path: Path) -> None:
    tensors = run(tmp_path, Sites())
    records = read_rounds(tmp_path)
    assert [(row.stage, row.round, row.aggregated, list(row.replies)) for row in records] == [
        (stage, number, True, SITES) for stage, number in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    ]
    assert {row.study_hash for row in records} == {STUDY.hash()}
    metrics = read_metrics(tmp_path)
    assert sum(row.metric == "loss" for row in metrics) == 10
    assert [row.norms["south"] / row.norms["north"] for row in records] == pytest.approx([3.0] * 5)
    assert sum((row.split, row.metric) == ("test", "auroc") for row in metrics) == 2
    saved, metadata = read_checkpoint(tmp_path / "model.safetensors")
    assert {group_of(name) for name in saved} == {"encoder"}
    assert (metadata["study_hash"], metadata["split"]) == (STUDY.hash(), describe_split(STUDY))
    for name, array in tensors.items():
        np.testing.assert_array_equal(saved[name], array)


def test_the_encoder_goes_on_from_stage_to_stage(tmp_path: Path) -> None:
    after_all = run(tmp_path / "a", Sites())
    after_pretraining, _ = read_checkpoint(tmp_path / "a" / "model.safetensors")
    name = "encoder.stages.0.conv.unit0.adn.N.weight"
    np.testing.assert_allclose(after_all[name], 1 + 5 * 2, rtol=1e-6)  # initial 1, five rounds of mean +2
    assert name in after_pretraining


@pytest.mark.parametrize(
    ("stage", "number", "action"),
    [(1, 1, "train"), (1, 2, "train"), (2, 1, "train"), (2, 3, "train"), (2, 3, "evaluate")],
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_result(
    tmp_path: Path, stage: int, number: int, action: str
) -> None:
    whole = run(tmp_path / "whole", Sites())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Sites(stop_at(stage, number, action)))
    rest = Sites()
    resumed = run(tmp_path / "stopped", rest)
    assert rest.asked[0][:3] == (action, stage, number), "what is done is not asked for again"
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array)

    assert untimed(tmp_path / "stopped") == untimed(tmp_path / "whole")
    assert read_metrics(tmp_path / "stopped") == read_metrics(tmp_path / "whole")
    evaluated = [
        [line.changed(seconds=0.0) for line in read_evaluations(tmp_path / name)] for name in ("stopped", "whole")
    ]
    assert evaluated[0] == evaluated[1]


def test_below_quorum_nothing_is_aggregated_and_the_record_says_who_was_missing(tmp_path: Path) -> None:
    lose = Sites(lambda request: {"south"} if (request.stage, request.round) == (1, 2) else set())
    with pytest.raises(RoundError, match=r"Round 2 of stage 1 had 1 usable replies, quorum 2.*south: DEADLINE"):
        run(tmp_path, lose)
    last = read_rounds(tmp_path)[-1]
    assert (last.round, last.aggregated) == (2, False)
    _, metadata = read_checkpoint(tmp_path / "checkpoint.safetensors")
    assert (metadata["stage"], metadata["round"]) == ("1", "1")
    whole = run(tmp_path / "whole", Sites())
    for name, array in run(tmp_path, Sites()).items():
        np.testing.assert_array_equal(array, whole[name])
    assert untimed(tmp_path) == untimed(tmp_path / "whole"), "the failed try is not counted twice"


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Sites())
    with pytest.raises(CheckpointError, match="another study"):
        open_run(tmp_path, STUDY.model_copy(update={"seed": 4}))


def with_round(**keys: object) -> Study:
    return parse_study(json.dumps({**json.loads(STUDY.canonical()), "round": {"quorum": 2, **keys}}))


def lose_once(stage: int, number: int) -> Callable[[Request], set[str]]:
    """South does not answer the first time that round is asked for."""
    asked: list[Request] = []

    def before(request: Request) -> set[str]:
        if (request.stage, request.round, request.action) != (stage, number, "train"):
            return set()
        asked.append(request)
        return {"south"} if len(asked) == 1 else set()

    return before


def test_a_round_below_quorum_is_tried_again_where_the_study_says_so(tmp_path: Path) -> None:
    study = with_round(below_quorum="retry", retries=2)
    tensors = run(tmp_path, Sites(lose_once(1, 2)), study)
    tried = [(row.round, row.attempt, row.aggregated) for row in read_rounds(tmp_path) if row.stage == 1]
    assert tried == [(1, 1, True), (2, 1, False), (2, 2, True)]
    for name, array in run(tmp_path / "whole", Sites(), study).items():
        np.testing.assert_array_equal(array, tensors[name])


def test_a_round_is_not_tried_more_often_than_the_study_says(tmp_path: Path) -> None:
    always = Sites(lambda request: {"south"} if request.round == 2 else set())
    with pytest.raises(RoundError, match="not aggregated in 3 tries"):
        run(tmp_path, always, with_round(below_quorum="retry", retries=2))
    assert [each[2] for each in always.asked] == [1, 2, 2, 2]


def test_one_rejected_again_and_again_is_reported_once_per_so_many_times(tmp_path: Path) -> None:
    study = with_round(quorum=1, report_after=2)
    run(tmp_path, Sites(lambda request: {"south"} if request.action == "train" else set()), study)
    assert [list(row.reported) for row in read_rounds(tmp_path)] == [[], ["south"], [], ["south"], []]
    said = [line for line in read_ledger(tmp_path) if line.event == "reported"]
    assert [(line.site, line.stage, line.round) for line in said] == [("south", 1, 2), ("south", 2, 2)]
    assert said[0].text == "rejected 2 times in a row, last DEADLINE: no answer"


def test_one_that_was_reported_and_is_not_there_any_more_is_not_reported_again(tmp_path: Path) -> None:
    sites = Sites(
        lambda request: {"south"} if request.action == "train" and sites.times < 4 else set(),
        there=lambda time: SITES if time < 4 else ["north"],  # asked at the start and before each round
    )
    run(tmp_path, sites, with_round(quorum=1, report_after=2))
    assert [list(row.reported) for row in read_rounds(tmp_path)] == [[], ["south"], [], [], []]


def test_one_answer_ends_a_row_of_rejections(tmp_path: Path) -> None:
    study = with_round(quorum=1, report_after=2)
    run(tmp_path, Sites(lambda request: {"south"} if request.round == 1 else set()), study)
    assert not any(row.reported for row in read_rounds(tmp_path))


def test_who_comes_and_goes_is_entered_in_the_ledger(tmp_path: Path) -> None:
    # asked at the start and before each of the five rounds; south comes for the third, north goes for the last
    there = {1: ["north"], 2: ["north"], 3: ["north"], 6: ["south"]}
    sites = Sites(there=lambda time: there.get(time, SITES))
    run(tmp_path, sites, with_round(quorum=1))
    moves = [
        (line.event, line.site, line.stage, line.round)
        for line in read_ledger(tmp_path)
        if line.event in ("joined", "left")
    ]
    assert moves == [("joined", "south", 2, 1), ("left", "north", 2, 3), ("joined", "north", 2, 3)], "to be evaluated"
    assert [list(row.participants) for row in read_rounds(tmp_path)] == [["north"], ["north"], SITES, SITES, ["south"]]


def test_the_ledger_names_the_model_of_every_round_and_every_resumption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Sites(stop_at(2, 1)))
    tensors = run(tmp_path, Sites())
    lines = read_ledger(tmp_path)
    events = [line.event for line in lines]
    assert events == ["started", "round", "round", "resumed", "round", "round", "round", "finished"]
    assert lines[3].model == lines[2].model != lines[1].model
    assert lines[-1].model == hash_tensors(tensors)


def test_so_many_sites_are_drawn_for_each_round(tmp_path: Path) -> None:
    run(tmp_path, Sites(), with_round(quorum=1, participants=1))
    asked = [list(row.participants) for row in read_rounds(tmp_path)]
    assert all(len(each) == 1 for each in asked)
    assert {site for each in asked for site in each} == set(SITES)


def test_with_nothing_shared_the_server_changes_nothing(tmp_path: Path) -> None:
    study = parse_study(
        json.dumps({**json.loads(STUDY.canonical()), "stage": [{"kind": "pretrain", "rounds": 2, "share": []}]})
    )

    class Silent(Sites):
        def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
            for site in sites:
                on_reply(site, Reply(site, cases=10, metrics={"train/loss": 0.5}))
            return Exchange(list(sites))

    tensors = run(tmp_path, Silent(), study)
    started = read_tensors(build_stage_network(study, 1))
    assert tensors
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, started[name])


def test_what_sites_tell_of_their_patients_is_kept(tmp_path: Path) -> None:
    run(tmp_path, Sites())
    assert json.loads((tmp_path / "cohorts.json").read_text()) == {"north": {"csPCa/yes": 30.0}}


def test_a_new_run_starts_from_given_weights_and_a_resumed_one_asks_for_none(tmp_path: Path) -> None:
    given = {name: array + 7 for name, array in read_tensors(build_stage_network(STUDY, 1)).items()}
    encoder = {name: array for name, array in given.items() if group_of(name) == "encoder"}
    seen: list[Request] = []

    class Watching(Sites):
        def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
            seen.append(request)
            return super().ask(request, sites, on_reply, close_after)

    with pytest.raises(KeyboardInterrupt):
        run_stages(STUDY, "run", Watching(stop_at(1, 2)), tmp_path, lambda: encoder)
    for name, array in seen[0].tensors.items():
        start = encoder if group_of(name) == "encoder" else read_tensors(build_stage_network(STUDY, 1))
        np.testing.assert_array_equal(array, start[name])

    def refuse() -> dict[str, np.ndarray]:
        raise AssertionError("a resumed run has its weights")

    run_stages(STUDY, "run", Sites(), tmp_path, refuse)


def test_two_processes_cannot_run_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RoundError, match="Another process runs in"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_ledgers_line_is_written_on_resume_where_a_kill_came_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(ledger: Ledger, entry: Entry) -> None:
        if (entry.event, entry.stage, entry.round) == ("round", 1, 2):
            raise KeyboardInterrupt
        written(ledger, entry)

    written = Ledger.add
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, Sites())
    assert read_run_state(tmp_path, STUDY.hash()).round == 2, "the checkpoint is there"
    run(tmp_path, Sites())
    run(tmp_path / "whole", Sites())
    entered = [
        [(line.stage, line.round, line.model) for line in read_ledger(folder) if line.event == "round"]
        for folder in (tmp_path, tmp_path / "whole")
    ]
    assert len(entered[1]) == 5
    assert entered[0] == entered[1]


@pytest.mark.parametrize(
    ("stages", "left_out"),
    [
        ([{"kind": "finetune", "task": "classify", "rounds": 1, "local": ["norm"]}], {"adn.N.weight", "adn.N.bias"}),
        ([{"kind": "finetune", "task": "classify", "rounds": 1, "share": []}], {""}),
        (
            [
                {"kind": "pretrain", "rounds": 1},
                {"kind": "finetune", "task": "classify", "rounds": 1, "local": ["norm"]},
            ],
            set(),
        ),
    ],
)
def test_the_model_holds_what_was_trained_and_names_what_is_left_out(
    tmp_path: Path, stages: list[dict[str, object]], left_out: set[str]
) -> None:
    study = parse_study(json.dumps({**json.loads(STUDY.canonical()), "stage": stages}))

    class Sharing(Sites):
        def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
            travels = shared_names(build_stage_network(study, request.stage), study.stage[request.stage - 1])
            sent = {name: array for name, array in request.tensors.items() if name in travels}
            return super().ask(replace(request, tensors=sent), sites, on_reply, close_after)

    run(tmp_path, Sharing(), study)
    saved, metadata = read_checkpoint(tmp_path / "model.safetensors")
    drawn = read_tensors(build_stage_network(study, 1))
    whole = {name for name in drawn if group_of(name) == "encoder"}
    named = set(json.loads(metadata["left_out"]))
    assert named == {name for name in whole if any(name.endswith(part) for part in left_out)}
    assert bool(named) == bool(left_out)
    assert set(saved) == whole - named
    for name, array in saved.items():
        assert not np.array_equal(array, drawn[name]), f"{name} is as it was drawn"


def test_a_loss_that_diverges_is_in_the_record_and_told(tmp_path: Path) -> None:
    class Diverging(Sites):
        def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
            def spoil(site: str, reply: Reply) -> None:
                far = (site, request.action, request.stage, request.round) == ("south", "train", 1, 2)
                on_reply(site, replace(reply, metrics={**reply.metrics, "train/loss": 1e12}) if far else reply)

            return super().ask(request, sites, spoil, close_after)

    told: list[Event] = []
    with listening(told.append):
        run(tmp_path, Diverging())
    assert [list(row.diverged) for row in read_rounds(tmp_path)] == [[], ["south"], [], [], []]
    (said,) = [event for event in told if isinstance(event, Said) and "diverged" in event.text]
    assert said.site == "south"
    assert "1e+12" in said.text


def test_who_cannot_take_part_is_in_the_ledger_once_for_each_reason(tmp_path: Path) -> None:
    sites = Sites()
    sites.refused = {"west": "DATA (no cases)"}

    def mend(request: Request) -> set[str]:
        if (request.stage, request.round) == (1, 2):
            sites.refused = {"west": "STORAGE (no room)"}
        return set()

    sites.before = mend
    run(tmp_path, sites)
    lines = [(line.site, line.text) for line in read_ledger(tmp_path) if line.event == "refused"]
    assert lines == [("west", "DATA (no cases)"), ("west", "STORAGE (no room)")]


def test_a_quorum_that_those_asked_cannot_reach_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached with 1 replies"):
        with_round(participants=1, close_after=3, quorum=2)
