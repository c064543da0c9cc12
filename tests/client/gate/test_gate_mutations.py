"""Every check of the gate is one that holds: taken out, something passes that should not.

The points are found in the source: each `raise` and each problem that is returned in the modules of the gate, and each
call of the gate in what answers requests. One is taken out at a time, in this process; then one of the tests named for
its function must fail. A check that nobody has named a test for fails as well.
"""

import ast
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import pytest

from prostafed.client.gate import (
    admission,
    allowance,
    approval,
    approval_file,
    checks,
    halt,
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
    ConfigurationError,
    DataError,
    DeclinedError,
    HaltedError,
    HeldError,
    InitialError,
)
from prostafed.common.exchange.arrays import Layout, Slot
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.study import Data
from tests.client.gate.approved import approve, day, write_keyed_site
from tests.client.gate.hospital import STUDY, ask_round, make_hospital, put
from tests.client.tiny_site import GRID, initial, write_site

GATE = (admission, allowance, approval, approval_file, checks, halt, opt_out, outbox, release, told)
CALLERS = {  # functions outside of the gate's modules that call it
    "client.app": ("handle",),
    "client.rounds.answer": ("answer", "_train", "_evaluate"),
    "client.rounds.local_round": ("_conclude",),
    "client.gate.release": ("release",),
    "client.gate.approval": ("require_approval",),
    "client.gate.outbox": ("require_release",),
}
CALLS = {
    *("require_going", "require_approval", "record_request", "note_left", "record_answer", "require_undeclined"),
    *("require_cohort", "require_release", "check_answer", "check_update", "_check_splits", "_require_time"),
    *("_require_initial", "_use"),
}

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


TESTS: dict[str, list[Callable[[Path], None]]] = {
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
    "halt.go_on": [stops_where_it_is_halted],
    "outbox.require_release": [holds_updates, keeps_what_was_declined],
    "outbox.require_undeclined": [keeps_what_was_declined],
    "outbox.decide": [holds_updates],
    "told.tell_once": [tells_of_test_patients_once],
    "opt_out.read_opted_out": [trains_without_who_objects],
    "app.handle": [
        *(asks_before_it_opens_a_case, stops_where_it_is_halted_meanwhile, asks_who_has_approved),
        *(writes_down_what_it_does, takes_no_noise_that_can_be_repeated),
    ],
    "answer._let_go": [holds_updates],
    "answer._train": [keeps_what_was_declined, wants_a_cohort],
    "answer._evaluate": [tells_of_test_patients_once],
    "local_round._conclude": [keeps_no_answer_that_may_not_leave],
}


def is_check(node: ast.AST, function: str) -> bool:
    """Return whether a statement is a point at which something is refused, or the gate called."""
    match node:
        case ast.Raise(exc=ast.expr()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name in CALLS
        case ast.Return(value=ast.expr()) if function.startswith("check_") and function != "check_answer":
            return ast.unparse(node) != "return ''"
    return False


def list_points() -> Iterator[tuple[str, str, int]]:
    """Yield each point: module, function, and which of its checks."""
    modules = {each.__name__.removeprefix("prostafed."): None for each in GATE} | CALLERS
    for name, functions in modules.items():
        tree = ast.parse(Path(importlib.import_module(f"prostafed.{name}").__file__ or "").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and (functions is None or node.name in functions or name in GATES):
                count = sum(is_check(inner, node.name) for inner in ast.walk(node))
                yield from ((name, node.name, number) for number in range(count))


GATES = {each.__name__.removeprefix("prostafed.") for each in GATE}
POINTS = list(list_points())


class TakeOut(ast.NodeTransformer):
    """Takes the `number`-th check out of a function: a problem becomes none, any other statement nothing."""

    def __init__(self, function: str, number: int) -> None:
        self.function, self.left = function, number

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if is_check(node, self.function):
            self.left -= 1
            if self.left == -1:
                empty = ast.Return(ast.Constant("")) if isinstance(node, ast.Return) else ast.Pass()
                return ast.copy_location(empty, node)
        return super().generic_visit(node)


def mutate(module: ModuleType, function: str, number: int) -> CodeType:
    """Return the code of a function without one of its checks."""
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    (node,) = (each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == function)
    node.decorator_list = []
    alone = ast.Module([TakeOut(function, number).visit(node)], [])
    code = compile(ast.fix_missing_locations(alone), f"<{function} without check {number}>", "exec")
    return next(each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == function)


def fails(test: Callable[[Path], None], folder: Path) -> bool:
    folder.mkdir()
    try:
        test(folder)
    except BaseException as error:  # pytest's own are no Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return True
    return False


@pytest.mark.parametrize("test", list(dict.fromkeys(each for tests in TESTS.values() for each in tests)))
def test_the_gate_keeps(test: Callable[[Path], None], tmp_path: Path) -> None:
    test(tmp_path)


@pytest.mark.parametrize(("module", "function", "number"), POINTS)
def test_without_a_check_a_test_fails(module: str, function: str, number: int, tmp_path: Path) -> None:
    found = importlib.import_module(f"prostafed.{module}")
    changed, tests = getattr(found, function), TESTS.get(f"{module.rpartition('.')[2]}.{function}", [])
    code = changed.__code__
    changed.__code__ = mutate(found, function, number)
    try:
        assert any(fails(test, tmp_path / str(place)) for place, test in enumerate(tests))
    finally:
        changed.__code__ = code


def test_every_named_test_is_of_a_check() -> None:
    assert TESTS.keys() == {f"{module.rpartition('.')[2]}.{function}" for module, function, _ in POINTS}
