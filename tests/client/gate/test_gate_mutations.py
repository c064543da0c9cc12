"""Every check of the gate is one that holds: taken out, something passes that should not.

The points are found in the source: each `raise` and each problem that is returned in the modules of the gate, and each
call of the gate in what answers requests. One is taken out at a time, in this process; then one of the tests named for
its function must fail. A check that nobody has named a test for fails as well.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prostafed.client.gate import (
    admission,
    allowance,
    approval,
    approval_file,
    canaries,
    checks,
    halt,
    ledger,
    masks,
    noise,
    opt_out,
    outbox,
    release,
    told,
)
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.checks import Bounds
from prostafed.client.gate.release import ReleaseError
from prostafed.common.errors import (
    AlreadyToldError,
    ApprovalError,
    ApprovalOverError,
    BudgetError,
    CheckpointError,
    ConfigurationError,
    DataError,
    DeclinedError,
    HaltedError,
    HeldError,
    InitialError,
    MaskError,
    StorageError,
)
from prostafed.common.exchange.arrays import Layout, Slot
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.secagg.records import AllAgreed, AllShares, Parts, Survivors
from prostafed.common.study import Data
from prostafed.common.tensors import hash_tensors
from tests.client.gate import test_ledger, test_masks, test_opt_out
from tests.client.gate.approved import approve, day, write_keyed_site
from tests.client.gate.hospital import STUDY, ask_round, make_hospital, put
from tests.client.gate.test_opt_out import object_to, someone
from tests.client.tiny_site import BYOL, FINETUNE, GRID, ask, initial, make_study, write_site
from tests.client.training import test_private
from tests.mutations import Kind, Point, Test, fails, list_points, taking_out

OF_RECORDS = (canaries, ledger, masks, noise)
GATE = (admission, allowance, approval, approval_file, checks, halt, opt_out, outbox, release, told, *OF_RECORDS)
CALLERS = {  # functions outside of the gate's modules that call it
    "client.app": ("handle",),
    "client.rounds.answer": ("answer", "_answer", "_let_go", "_require_same", "_train", "_evaluate", "_check_splits"),
    "client.rounds.local_round": ("train_round", "_conclude"),
    "client.training.private": ("optimise_privately", "_check"),
}
KIND = Kind(
    calls=frozenset(
        (
            *("require_going", "require_approval", "record_request", "note_left", "record_answer"),
            *("require_undeclined", "require_cohort", "require_release", "check_answer", "check_update"),
            *("_check_splits", "_require_time", "_require_initial", "_use", "_require_same", "keep_scores"),
            *("begin", "leave", "evaluate", "_check", "read_cohort"),  # of the ledger
            *("check_sum", "_check_peers", "_check_digest", "_find_cases", "_sign", "_keep", "_tidy"),  # of masks
            *("apply_masks", "write_json"),
        )
    ),
    around={"_let_go": 1, "make_summand": 1, "add_noise": 0, "mix": 0, "mask_once": 0, "agree": 0},
    returned=lambda function: function.startswith("check_") and function != "check_answer",
)

# What each check of `release` keeps in
PAYLOAD = Layout({"encoder.w": Slot(("float32",), (3,)), "values.w": Slot(("float32",), (9,), shorter=True)}, 20)
TENSORS = {"encoder.w": np.ones(3, np.float32), "values.w": np.ones(2, np.float32)}
BOUNDS = Bounds("north", "ab", Request("train", "run", "ab", 1, 2), minimum_cell=10, most_bytes=20)
FIT = Reply("north", "ab", 1, 2, 12, TENSORS, {"train/loss": 0.5})
JUDGED = replace(BOUNDS, request=replace(BOUNDS.request, action="evaluate", splits=("test",)))
GREETED = replace(BOUNDS, request=Request("hello"))


def with_tensor(name: str, array: Any) -> Reply:
    return replace(FIT, tensors={**TENSORS, name: array})


def told_of(bounds: Bounds, **metrics: float) -> tuple[Reply, Bounds]:
    request = bounds.request
    found = {name.replace("__", "/").replace("_of_", "-"): value for name, value in metrics.items()}
    return Reply("north", "ab", request.stage, request.round, 30, TENSORS, found), bounds


HOSTILE: dict[str, list[tuple[Reply, Bounds]]] = {
    "site": [(replace(FIT, site="south"), BOUNDS), (replace(FIT, site="JOHN DOE"), BOUNDS)],
    "study": [(replace(FIT, study_hash="ac"), BOUNDS)],
    "place": [(replace(FIT, round=3), BOUNDS), (replace(FIT, stage=2), BOUNDS)],
    "cases": [(replace(FIT, cases=each, metrics={}), BOUNDS) for each in (0, -1, 10**8, True, 3.5)],
    "names": [
        (with_tensor("head.w", np.ones(0, np.float32)), BOUNDS),
        (replace(FIT, tensors={"encoder.w": TENSORS["encoder.w"]}), BOUNDS),
    ],
    "layout": [
        (with_tensor("values.w", np.ones((1, 2), np.float32)), BOUNDS),
        (with_tensor("encoder.w", np.ones(3, np.int32)), BOUNDS),
    ],
    "finite": [(with_tensor("encoder.w", np.float32([1, each, 1])), BOUNDS) for each in (np.nan, np.inf, -np.inf)],
    "plan": [(with_tensor("values.w", np.ones(8, np.float32)), replace(BOUNDS, most_bytes=99))],
    "size": [(FIT, replace(BOUNDS, most_bytes=19))],
    "metrics": [
        (replace(FIT, metrics={"train/age": 61.0}), BOUNDS),
        (replace(FIT, metrics={"train/loss": float("nan")}), BOUNDS),
        (replace(FIT, metrics={"train/steps": 0.5}), BOUNDS),
    ],
    "asked": [
        (replace(FIT, metrics={"test/n": 12.0}), BOUNDS),
        told_of(JUDGED, validation__n=12.0),
        told_of(GREETED, test__n=12.0),
    ],
    "masks": [(replace(FIT, masks=b"{}"), BOUNDS)],
    "cells": [
        (replace(FIT, cases=9), BOUNDS),  # and their loss
        told_of(JUDGED, test__n=9.0),
        told_of(JUDGED, test__n=20.0, test__positives=9.0),
        told_of(JUDGED, test__detection_histogram__lesions=9.0),
        told_of(JUDGED, test__score_histogram__positive__017=4.0, test__score_histogram__negative__017=5.0),
        told_of(GREETED, cohort__csPCa__yes=9.0),
    ],
}
PAIRS = [(name, reply, bounds) for name, found in HOSTILE.items() for reply, bounds in found]


def test_each_check_of_an_answer_has_an_answer_that_it_keeps_in() -> None:
    assert HOSTILE.keys() == release.CHECKS.keys()


def test_what_fits_passes() -> None:
    assert release.release(FIT, PAYLOAD, BOUNDS) is FIT
    cell = {"test__score_histogram__positive__017": 4.0, "test__score_histogram__negative__017": 6.0}
    for reply, bounds in (
        told_of(JUDGED, test__n=10.0, test__positives=0.0, **cell),
        told_of(GREETED, cohort__csPCa__yes=10.0, cohort__scanner__ge=1.0),
    ):
        assert release.release(reply, PAYLOAD, bounds) is reply


@pytest.mark.parametrize(("name", "reply", "bounds"), PAIRS, ids=[name for name, _, _ in PAIRS])
def test_an_answer_is_kept_in_by_one_check_alone(
    name: str, reply: Reply, bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        release.release(reply, PAYLOAD, bounds)
    monkeypatch.setattr(release, "CHECKS", {each: check for each, check in release.CHECKS.items() if each != name})
    assert release.release(reply, PAYLOAD, bounds) is reply


# One small test for each promise of the gate; they get an empty folder.


def keeps_answers_in(folder: Path) -> None:
    for _, reply, bounds in PAIRS:
        with pytest.raises(ReleaseError):
            release.release(reply, PAYLOAD, bounds)


def keeps_updates_in(folder: Path) -> None:
    for update in ({**TENSORS, "head.w": np.ones(1)}, {**TENSORS, "encoder.w": np.ones(4)}):
        with pytest.raises(ReleaseError):
            release.check_update(update, TENSORS)


def refuses(site_file: Path, request: Request, code: str, **asked: Any) -> None:
    answer = put(site_file, request, **asked)
    assert isinstance(answer, Refusal), answer
    assert answer.code == code


def asks_who_has_approved(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    other = STUDY.model_copy(update={"seed": 9})
    refuses(site_file, Request("hello", study_hash=other.hash()), "NOT_APPROVED", study=other)
    refuses(site_file, ask_round(), "CHECKPOINT", study=approved_too(site_file))


def approved_too(site_file: Path) -> Any:
    other = STUDY.model_copy(update={"seed": 10})
    approve(site_file, other)
    return other


def asks_whether_an_approval_holds(folder: Path) -> None:
    site_file = write_keyed_site(folder / "north")
    ask = Request("train", "run", STUDY.hash(), 1, 1)
    approve(site_file, STUDY, until=day(-1))
    for request in (ask, Request("hello")):
        with pytest.raises(ApprovalOverError):
            approval.require_approval(site_file, STUDY, request)
    approve(site_file, STUDY, rounds=1)
    approval.require_approval(site_file, STUDY, ask)
    with pytest.raises(ApprovalOverError):
        approval.require_approval(site_file, STUDY, replace(ask, round=2))
    approve(site_file, STUDY, initial_digest="f" * 64)
    with pytest.raises(InitialError):
        approval.require_approval(site_file, STUDY, ask)
    approve(site_file, STUDY)
    next((folder / "north" / "approvals").glob("*.json")).with_suffix(".used.json").write_text("{}")
    with pytest.raises(ApprovalOverError):
        approval.require_approval(site_file, STUDY, ask)


def asks_for_the_file_a_study_starts_from(folder: Path) -> None:
    initial_ = STUDY.initial.model_copy(update={"weights": "encoder.safetensors", "sha256": "a" * 64})
    with pytest.raises(ConfigurationError, match="Ask the coordinator for it"):
        approval.read_initial(STUDY.model_copy(update={"initial": initial_}), None)


def believes_its_own_key_alone(folder: Path) -> None:
    site_file = write_keyed_site(folder / "north")
    approve(site_file, STUDY)
    path = folder / "north" / "approvals" / f"{STUDY.hash()}.json"
    path.write_text(path.read_text().replace('"rounds": 2', '"rounds": 3'))
    with pytest.raises(ApprovalError, match="none of this site"):
        approval_file.read_approval(site_file, STUDY.hash())
    key = folder / "north" / "north.key"
    for content in (b"no key", ed25519_key()):
        key.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"private key|not an ECDSA key"):
            approval_file.read_approval(site_file, STUDY.hash())
    site_file.write_text('name = "north"\n')
    with pytest.raises(ConfigurationError, match=r"table \[server\]"):
        approval_file.read_approval(site_file, STUDY.hash())


def ed25519_key() -> bytes:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())


def takes_cases_that_fit(folder: Path) -> None:
    cases = open_case_folder(write_site(folder / "north").parent / "cases")
    fits = Data(size=GRID.size, spacing_mm=GRID.spacing_mm)
    with pytest.raises(DataError, match="Index them again"):
        admission.admit_cases(cases, Data())
    bare = replace(cases, records=tuple(replace(each, sequences={}) for each in cases.records))
    with pytest.raises(DataError, match="None of the 10 cases"):
        admission.admit_cases(bare, fits)


def wants_a_cohort(folder: Path) -> None:
    refuses(make_hospital(folder / "north", "minimum_cohort = 10"), ask_round(), "SMALL_COHORT")
    assert isinstance(put(make_hospital(folder / "south", "minimum_cohort = 9"), ask_round()), Reply)


def knows_prefixes(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="another prefix"):
        allowance.list_update({"encoder.w": np.ones(1)}, ["encoder.w"], "encoder.")


def stops_where_it_is_halted(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    halt.halt(folder / "north", "jane")
    with pytest.raises(HaltedError):
        halt.require_going(folder / "north")
    refuses(site_file, Request("hello", study_hash=STUDY.hash()), "HALTED")
    halt.go_on(folder / "north", "jane")
    with pytest.raises(ConfigurationError, match="not halted"):
        halt.go_on(folder / "north", "jane")


def halts_on_a_full_disk_and_says_why_on_another(folder: Path) -> None:
    def full(*_: Any) -> None:
        raise StorageError("full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halt, "write_json", full)
        with pytest.raises(StorageError):
            halt.halt(folder, "jane")
    assert halt.is_halted(folder)
    halt.halt(folder, "jane", "a recall")
    assert "by jane: a recall" in halt.say_halt(folder)


def tells_nothing_of_who_noise_hides(folder: Path) -> None:
    test_ledger.test_metrics_of_training_patients_do_not_leave_where_noise_hides_them(folder)


def stops_where_it_is_halted_meanwhile(folder: Path) -> None:
    from prostafed.client import app

    site_file, answer = make_hospital(folder / "north"), app.answer
    with pytest.MonkeyPatch.context() as patch:

        def answer_and_halt(*arguments: Any) -> Any:
            made = answer(*arguments)
            halt.halt(folder / "north", "jane")
            return made

        patch.setattr(app, "answer", answer_and_halt)
        refuses(site_file, ask_round(), "HALTED")


def asks_before_it_opens_a_case(folder: Path) -> None:
    from prostafed.client import app

    site_file = make_hospital(folder / "north")
    halt.halt(folder / "north", "jane")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "open_workplace", lambda *_: pytest.fail("it looked at its cases"))
        refuses(site_file, ask_round(), "HALTED")


def writes_down_what_it_does(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    assert isinstance(put(site_file, ask_round()), Reply)
    lines, _ = read_audit(folder / "north")
    assert [line["event"] for line in lines] == ["approved", "received", "answered"]
    assert [each.state for each in outbox.read_outbox(folder / "north")] == ["left"]


def takes_no_noise_that_can_be_repeated(folder: Path) -> None:
    refuses(make_hospital(folder / "north", "noise_seed = 1"), ask_round(), "CONFIGURATION")
    assert isinstance(put(make_hospital(folder / "south"), ask_round()), Reply)


def holds_updates(folder: Path) -> None:
    site_file, north = make_hospital(folder / "north", "hold = true"), folder / "north"
    refuses(site_file, ask_round(), "HELD")
    with pytest.raises(ConfigurationError, match="there is none"):
        outbox.decide(north, 7, "released", "jane")
    outbox.decide(north, 1, "released", "jane")
    with pytest.raises(ConfigurationError, match="it is released"):
        outbox.decide(north, 1, "declined", "jane")
    assert isinstance(put(site_file, ask_round()), Reply)


def keeps_what_was_declined(folder: Path) -> None:
    site_file, north = make_hospital(folder / "north", "hold = true"), folder / "north"
    refuses(site_file, ask_round(), "HELD")
    outbox.decide(north, 1, "declined", "jane", "not now")
    refuses(site_file, ask_round(), "DECLINED")
    other = replace(ask_round(), tensors={name: array + 1 for name, array in initial(STUDY).items()})
    refuses(site_file, other, "DECLINED")
    request, reply = ask_round(), Reply("north", STUDY.hash(), 1, 1, 8, {"encoder.w": np.ones(3)})
    with pytest.raises(DeclinedError):
        outbox.require_release(north, request, reply)
    with pytest.raises(HeldError):
        outbox.require_release(north, replace(request, round=2), replace(reply, round=2))
    site_file.write_text(site_file.read_text().replace("hold = true", "hold = false"))
    refuses(site_file, ask_round(), "DECLINED", run=2)  # whatever the site file says by then


def tells_of_test_patients_once(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    asked = replace(ask_round(STUDY.stage[0].rounds), action="evaluate", splits=("test",))
    assert isinstance(put(site_file, asked), Reply)
    other = replace(asked, tensors={name: array + 1 for name, array in asked.tensors.items()})
    refuses(site_file, other, "TEST_TOLD")
    assert AlreadyToldError.code == "TEST_TOLD"
    refuses(site_file, replace(asked, round=1), "UNKNOWN_REQUEST")


def trains_without_who_objects(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    (folder / "north" / "memory").mkdir()
    (folder / "north" / "memory" / opt_out.FILE).write_text("[]")
    refuses(site_file, ask_round(), "DATA")


def keeps_no_answer_that_may_not_leave(folder: Path) -> None:
    from prostafed.client.rounds import local_round

    def object_to(*_: Any) -> None:
        raise ReleaseError("It may not leave.")

    site_file = make_hospital(folder / "north")
    for check in ("check_update", "check_answer"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_round, check, object_to)
            refuses(site_file, ask_round(), "RELEASE")
    assert not list(folder.rglob("answer-*"))


def writes_down_whom_it_uses(folder: Path) -> None:
    site_file = make_hospital(folder / "north")
    put(site_file, ask_round())
    put(site_file, replace(ask_round(), action="evaluate", splits=("validation",)))
    assert [line["event"] for line in ledger.read_ledger(folder / "north")] == ["begins", "left", "evaluated"]


def declines_once_noise_is_broken(folder: Path) -> None:
    ledger.begin(folder, test_ledger.USE, ["p1"], test_ledger.FREE)
    ledger.leave(folder, test_ledger.USE, ["p1"], audited=1e6)
    with pytest.raises(BudgetError, match="the noise is broken"):
        ledger.begin(folder, replace(test_ledger.USE, round=2), ["p1"], test_ledger.FREE)


def adds_noise_to_a_sites_update(folder: Path) -> None:
    """It is clipped to almost nothing, so that what has left is almost what came."""
    study = make_study({**FINETUNE, "epochs": 1}, privacy={"unit": "site", "noise": 1.0, "clip": 1e-9})
    answer, sent = put(make_hospital(folder / "north", study=study), ask(study), study), initial(study)
    assert isinstance(answer, Reply)
    assert all(np.allclose(answer.tensors[name], sent[name], rtol=0, atol=1e-7) for name in sent)


def audits_its_noise(folder: Path) -> None:
    study = make_study({**FINETUNE, "epochs": 1}, privacy={"unit": "patient", "noise": 2.0})
    put(make_hospital(folder / "north", "canaries = 8", study=study), ask(study), study)
    assert "audited" in ledger.read_ledger(folder / "north")[-1]


SUMMED = make_study({**FINETUNE, "epochs": 1}, round={"compress": "fixed32"})


def ask_sum(cases: int = 9) -> Request:
    """Ask for a part of a sum without masks, the site being counted with so many cases."""
    parts = Parts(number="7a" * 32, digest=hash_tensors(initial(SUMMED)), cases={"north": cases, "south": 8})
    return replace(ask(SUMMED), masks=parts.pack())


def sums_whole_numbers(folder: Path) -> None:
    answer = put(make_hospital(folder / "north", study=SUMMED), ask_sum(), SUMMED)
    assert isinstance(answer, Reply), answer
    assert {array.dtype.name for array in answer.tensors.values()} == {"uint32"}


def holds_what_is_summed(folder: Path) -> None:
    refuses(make_hospital(folder / "north", "hold = true", study=SUMMED), ask_sum(), "HELD", study=SUMMED)


def trains_for_no_sum_that_counts_it_otherwise(folder: Path) -> None:
    refuses(make_hospital(folder / "north", study=SUMMED), ask_sum(8), "WRONG_MASKS", study=SUMMED)
    assert not (folder / "north" / ledger.FILE).exists()


def evaluates_without_who_objects_meanwhile(folder: Path) -> None:
    from prostafed.client.rounds import answer as work

    site_file, seen = make_hospital(folder / "north"), list[int]()
    patient, assess = someone(site_file), work._assess_splits
    with pytest.MonkeyPatch.context() as patch:

        def assess_and_object(job: Any) -> Reply:
            told = assess(job)
            if not seen:
                object_to(site_file, patient, removed=False)
            seen.append(len(job.chosen))
            return told

        patch.setattr(work, "_assess_splits", assess_and_object)
        put(site_file, replace(ask_round(), action="evaluate", splits=("validation",)))
    assert seen == [9, 8]


def holds_nothing_of_who_objects_meanwhile(folder: Path) -> None:
    from prostafed.client.rounds import answer as work

    site_file, train = make_hospital(folder / "north", "hold = true"), work._train
    patient = someone(site_file)
    with pytest.MonkeyPatch.context() as patch:

        def train_and_object(job: Any) -> Reply:
            reply = train(job)
            if patient not in opt_out.read_opted_out(job.workplace.site.memory):
                object_to(site_file, patient, removed=False)
            return reply

        patch.setattr(work, "_train", train_and_object)
        refuses(site_file, ask_round(), "HELD")
    assert [each.line["cases"] for each in outbox.read_outbox(folder / "north")] == [8]


def evaluates_what_may_be(folder: Path) -> None:
    site_file, asked = make_hospital(folder / "north"), replace(ask_round(), action="evaluate")
    for splits in ((), ("train", "train"), ("everybody",), ("test",)):
        refuses(site_file, replace(asked, splits=splits), "UNKNOWN_REQUEST")
    study = make_study(BYOL)
    approve(site_file, study)
    refuses(site_file, replace(ask(study), action="evaluate", splits=("train",)), "UNKNOWN_REQUEST", study=study)


def masks_for_what_was_asked_and_nothing_else(folder: Path) -> None:
    """Held against the request once more as the update leaves, whatever was checked before it was trained."""
    server = test_masks.Server(folder)
    mixed = server.shares()
    desk = test_masks.open_desk(folder, "train", mixed.pack())
    reply = Reply("north", test_masks.MASKED.hash(), 1, 1, test_masks.CASES, test_masks.TRAINED)
    with pytest.raises(MaskError, match="weights are not those"):
        masks.make_summand(desk, reply, "0" * 64)
    changed = mixed.shares[0].model_copy(update={"signature": mixed.shares[1].signature})
    others = AllShares(**server.tried, shares=(changed, *mixed.shares[1:]))
    with pytest.raises(MaskError, match="not signed"):
        masks.check_sum(test_masks.open_desk(folder, "train", others.pack()), test_masks.DIGEST)
    masks.check_sum(desk, test_masks.DIGEST)
    with pytest.raises(MaskError, match="Other sites that mask together"):
        masks.make_summand(test_masks.open_desk(folder, "train", others.pack()), reply, test_masks.DIGEST)


def masks_what_leaves(folder: Path) -> None:
    server = test_masks.Server(folder)
    left = server.train("north", server.shares()).tensors["encoder.w"]
    values = left.view(np.int32) / 2**31
    assert np.abs(values).max() > 0.1, "0.01 of a third of the cases is what would be seen"


def signs_later_and_once(folder: Path) -> None:
    """A site that was not waited for when the survivors signed signs as it is asked for its shares."""
    server = test_masks.Server(folder)
    mixed = server.shares()
    for site in test_masks.SITES:
        server.train(site, mixed)
    told = Survivors(**server.tried, survivors=test_masks.SITES).pack()
    agreed = [test_masks.Agreed.read(server.ask("agree", told, site)) for site in ("east", "south")]
    server.ask("unmask", AllAgreed(**server.tried, agreed=tuple(agreed)).pack(), "north")
    assert list((folder / "north" / "memory" / "signed").glob("*-stage-1.json"))


def takes_no_secrets_of_another_session(folder: Path) -> None:
    server = test_masks.Server(folder)
    server.keys()
    (path,) = (folder / "north" / "memory" / "run" / "stage-1" / "masks").glob("round-*.json")
    kept = path.read_text().replace('"session": "', '"session": "00')
    path.write_text(kept)
    with pytest.raises(CheckpointError, match="is damaged"):
        server.keys()


def says_where_secrets_are_damaged(folder: Path) -> None:
    test_masks.test_damaged_secrets_are_said_to_be("{}", folder)


def masks_where_the_study_does(folder: Path) -> None:
    test_masks.test_a_study_without_masks_answers_none_of_it("shares", folder)


def counts_itself(folder: Path) -> None:
    test_masks.test_a_round_that_counts_the_site_otherwise_is_not_trained({"south": 5}, folder)


def hides_patients_or_says_that_it_cannot(folder: Path) -> None:
    test_private.test_what_cannot_be_hidden_is_refused()


def keeps_weights_that_are_not_finite(folder: Path) -> None:
    test_private.test_weights_that_are_not_finite_end_the_round()


OF_MASKS: dict[str, list[Test]] = {
    "answer_masks": [masks_where_the_study_does],
    "check_sum": [
        test_masks.test_other_weights_than_the_keys_were_asked_for_are_not_trained,
        *(masks_for_what_was_asked_and_nothing_else, counts_itself),
    ],
    "make_summand": [
        test_masks.test_cases_that_were_not_trained_on_are_not_counted,
        test_masks.test_another_update_in_the_same_session_is_refused,
        *(masks_for_what_was_asked_and_nothing_else, masks_what_leaves),
    ],
    "_find_cases": [counts_itself, test_masks.test_other_weights_than_the_keys_were_asked_for_are_not_trained],
    "_check_digest": [test_masks.test_other_weights_than_the_keys_were_asked_for_are_not_trained],
    "_offer": [
        test_masks.test_what_was_said_is_said_again_by_another_process,
        test_masks.test_secrets_are_the_owners_and_go_with_the_round,
    ],
    "_share": [
        test_masks.test_keys_are_held_against_those_a_person_approved,
        test_masks.test_what_was_said_is_said_again_by_another_process,
    ],
    "_check_peers": [test_masks.test_keys_are_held_against_those_a_person_approved],
    "_sign": [
        test_masks.test_one_list_a_round_in_whatever_session_it_is_asked_for,
        test_masks.test_a_list_that_was_signed_is_remembered_when_the_rounds_secrets_are_gone,
        test_masks.test_what_was_said_is_said_again_by_another_process,
    ],
    "_open": [signs_later_and_once],
    "_read_signed": [test_masks.test_a_damaged_list_of_sums_signs_nothing],
    "_recall": [test_masks.test_secrets_are_the_owners_and_go_with_the_round],
    "_find": [takes_no_secrets_of_another_session, says_where_secrets_are_damaged],
}

TESTS: dict[str, list[Test]] = {
    **{f"masks.{name}": tests for name, tests in OF_MASKS.items()},
    "ledger.begin": [
        declines_once_noise_is_broken,
        test_ledger.test_the_round_that_would_exceed_the_budget_is_declined_before_it_starts,
    ],
    "ledger.read_ledger": [test_ledger.test_a_changed_line_and_a_changed_cohort_show],
    "ledger.read_cohort": [test_ledger.test_a_changed_line_and_a_changed_cohort_show],
    "ledger._check_study": [test_ledger.test_a_round_trained_again_and_again_ends_at_what_the_study_promises],
    "ledger._describe": [test_ledger.test_a_ledger_that_has_gone_is_no_empty_one],
    "ledger._check": [test_ledger.test_the_round_that_would_exceed_the_budget_is_declined_before_it_starts],
    "private.optimise_privately": [hides_patients_or_says_that_it_cannot, keeps_weights_that_are_not_finite],
    "private._check": [hides_patients_or_says_that_it_cannot],
    "answer.answer": [evaluates_without_who_objects_meanwhile],
    "answer._require_same": [evaluates_without_who_objects_meanwhile],
    "answer._answer": [
        *(holds_updates, holds_what_is_summed, sums_whole_numbers, trains_for_no_sum_that_counts_it_otherwise),
    ],
    "answer._check_splits": [evaluates_what_may_be, tells_nothing_of_who_noise_hides],
    "local_round.train_round": [audits_its_noise],
    "release.check_update": [keeps_updates_in],
    **{f"checks.check_{name}": [keeps_answers_in] for name in HOSTILE},
    "release.check_answer": [keeps_answers_in],
    "release.release": [keeps_answers_in],
    "approval.require_approval": [asks_whether_an_approval_holds, asks_who_has_approved],
    "approval._require_time": [asks_whether_an_approval_holds],
    "approval._require_initial": [asks_whether_an_approval_holds],
    "approval._use": [asks_whether_an_approval_holds],
    "approval._read_used": [asks_whether_an_approval_holds],
    "approval.read_initial": [asks_for_the_file_a_study_starts_from],
    "approval_file.read_server": [believes_its_own_key_alone],
    "approval_file.read_approval": [believes_its_own_key_alone],
    "approval_file._read_key": [believes_its_own_key_alone],
    "admission.admit_cases": [takes_cases_that_fit],
    "admission.require_cohort": [wants_a_cohort],
    "allowance.list_update": [knows_prefixes],
    "halt.require_going": [stops_where_it_is_halted],
    "halt.halt": [stops_where_it_is_halted, halts_on_a_full_disk_and_says_why_on_another],
    "halt.go_on": [stops_where_it_is_halted],
    "outbox.require_release": [holds_updates, keeps_what_was_declined],
    "outbox.require_undeclined": [keeps_what_was_declined],
    "outbox.decide": [holds_updates],
    "told.tell_once": [tells_of_test_patients_once],
    "opt_out.keep_opted_out": [test_opt_out.test_who_objects_is_kept_until_the_manifest_says_otherwise],
    "opt_out.read_opted_out": [trains_without_who_objects],
    "app.handle": [
        *(asks_before_it_opens_a_case, stops_where_it_is_halted_meanwhile, asks_who_has_approved),
        *(writes_down_what_it_does, takes_no_noise_that_can_be_repeated),
    ],
    "answer._let_go": [holds_updates, holds_nothing_of_who_objects_meanwhile],
    "answer._train": [keeps_what_was_declined, wants_a_cohort, writes_down_whom_it_uses],
    "answer._evaluate": [tells_of_test_patients_once, writes_down_whom_it_uses],
    "local_round._conclude": [keeps_no_answer_that_may_not_leave, adds_noise_to_a_sites_update],
}


def list_all_points() -> Iterator[Point]:
    for module in GATE:
        yield from list_points(module.__name__.removeprefix("prostafed."), KIND)
    for name, functions in CALLERS.items():
        yield from list_points(name, KIND, functions)


POINTS = list(list_all_points())


def find_tests(module: str, function: str) -> list[Test]:
    return TESTS.get(f"{module.rpartition('.')[2]}.{function}", [])


@pytest.mark.parametrize("test", list(dict.fromkeys(each for tests in TESTS.values() for each in tests)))
def test_the_gate_keeps(test: Test, tmp_path: Path) -> None:
    test(tmp_path)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
def test_without_a_check_a_test_fails(point: Point, tmp_path: Path) -> None:
    tests = find_tests(*point[:2])
    with taking_out(point, KIND):
        assert any(fails(test, tmp_path / str(place)) for place, test in enumerate(tests))


def test_every_named_test_is_of_a_check() -> None:
    assert TESTS.keys() == {f"{module.rpartition('.')[2]}.{function}" for module, function, _ in POINTS}
