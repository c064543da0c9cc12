"""Whatever fails at a site, a code from the list leaves it and no word of its own: the real ClientApp on a grid that
does with an exception what Flower does.
"""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from prostafed.client import app as site_app
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.release import ReleaseError
from prostafed.common.errors import CheckpointError, ConfigurationError, DataError, ProstafedError
from prostafed.common.exchange.kinds import REFUSALS, REFUSED
from prostafed.common.exchange.messages import Refusal, Request
from prostafed.common.exchange.wire import pack_reply, pack_request, unpack_reply
from prostafed.common.shell.keys import create_node_key
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.common.study import Study
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire, identify
from tests.client.gate.approved import SERVER, approve
from tests.client.tiny_site import FINETUNE, ask, initial, make_study, write_site

NAME = "ZZTOPSECRET"
PATH = f"/export/{NAME}_19010203/splits.csv"


class FlowerGrid(LocalGrid):
    """A grid that sends the text of what its ClientApp raised, as flwr-clientapp does."""

    def _answer(self, message: Message) -> Message:
        asked = cross_wire(message)
        try:
            reply = self._client_app(asked, self._contexts[message.metadata.dst_node_id])
        except Exception as error:
            reply = Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=asked)
        return cross_wire(identify(reply))


class UnspeakableError(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError(NAME)


class UnlistedError(ProstafedError):
    code = NAME


RAISED: list[tuple[BaseException, str]] = [
    (FileNotFoundError(errno.ENOENT, "No such file or directory", PATH), "STORAGE"),
    (PermissionError(errno.EACCES, "Permission denied", PATH), "STORAGE"),
    (OSError(errno.ENOSPC, "No space left on device", PATH), "STORAGE"),
    (KeyError(PATH), "INTERNAL"),
    (RuntimeError(PATH), "INTERNAL"),
    (UnicodeDecodeError("utf-8", PATH.encode(), 0, 1, PATH), "INTERNAL"),
    (ExceptionGroup(PATH, [ValueError(PATH)]), "INTERNAL"),
    (type(NAME, (Exception,), {})(PATH), "INTERNAL"),
    (UnspeakableError(), "INTERNAL"),
    (GeneratorExit(PATH), "INTERNAL"),
    (SystemExit(PATH), "INTERNAL"),
    (MemoryError(PATH), "MEMORY"),
    (torch.OutOfMemoryError(PATH), "MEMORY"),
    (ConfigurationError(PATH), "CONFIGURATION"),
    (DataError(PATH), "DATA"),
    (CheckpointError(PATH), "CHECKPOINT"),
    (ReleaseError(PATH), "RELEASE"),
    (UnlistedError(PATH), "INTERNAL"),
]
# What a request goes through, each in the module that calls it, and the request that does.
STEPS = {
    "prostafed.client.app.find_site_file": "hello",
    "prostafed.client.app.open_workplace": "hello",
    "prostafed.client.rounds.workplace.read_splits": "hello",
    "prostafed.client.rounds.answer._introduce": "hello",
    "prostafed.client.rounds.answer.train_round": "train",
    "prostafed.client.rounds.local_round.begin_round": "train",
    "prostafed.client.rounds.local_round.run_phase": "train",
    "prostafed.client.rounds.local_round.remember": "train",
    "prostafed.client.rounds.local_round.keep_answer": "train",
    "prostafed.client.rounds.answer.assess": "evaluate",
    "prostafed.client.rounds.answer.describe": "evaluate",
    "prostafed.client.rounds.answer.release": "evaluate",
    "prostafed.client.app.pack_reply": "evaluate",
}


@pytest.fixture
def study() -> Study:
    return make_study(FINETUNE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder with a patient's name in its path, and splits of its own."""
    folder = tmp_path / NAME
    write_site(folder, 'splits = "splits.csv"')
    lines = [f"case{number},{'train' if number < 8 else 'test'}" for number in range(10)]
    (folder / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    return folder


def exchange(site_file: Path, study: Study, change: Callable[[Message], None] | None = None, **asked: Any) -> Message:
    """Return what the site answers to a request, `change`d where it is to be another."""
    grid = FlowerGrid(site_app.app, [{"site": str(site_file)}], {"study": study.canonical(), "run": "run"})
    greets = asked.get("action") == "hello"
    usual = Request("hello", study_hash=study.hash()) if greets else ask(study)
    request = Request(**{**vars(usual), **asked})
    (node,) = grid.get_node_ids()
    (message,) = pack_request(request, [node], 60.0)
    if change:
        change(message)
    (answer,) = grid.send_and_receive([message])
    return answer


def all_bytes(message: Message) -> bytes:
    parts = get_all_nested_objects(message).values()
    return b"".join(part.deflate() for part in parts) + repr(vars(message.metadata)).encode()


def failing(error: BaseException) -> Callable[..., object]:
    """Return a function that raises `error` when called first; the second call is for the refusal."""
    calls = []

    def fail(*arguments: Any, **keywords: Any) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise error
        return pack_reply(*arguments, **keywords)

    return fail


EVERY_ERROR = [("prostafed.client.rounds.answer._introduce", error, code) for error, code in RAISED]
EVERY_STEP = [(step, error, code) for step in STEPS for error, code in (RAISED[0], RAISED[4], RAISED[13])]


@pytest.mark.parametrize(("step", "error", "code"), EVERY_ERROR + EVERY_STEP)
def test_whatever_is_raised_a_code_leaves_and_no_word(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, code: str
) -> None:
    site_app.open_workplace.cache_clear()
    monkeypatch.setattr(step, failing(error))
    action = STEPS[step]
    splits = ("validation",) if action == "evaluate" else ()
    answer = exchange(folder / "site.toml", study, action=action, splits=splits)
    assert NAME.encode() not in all_bytes(answer)
    assert (answer.error.code, answer.error.reason) == (REFUSED, code)
    assert code in REFUSALS


def test_a_file_that_is_really_missing_is_not_named(folder: Path, study: Study) -> None:
    site_app.open_workplace.cache_clear()
    (folder / "splits.csv").unlink()
    answer = exchange(folder / "site.toml", study, action="hello")
    assert NAME.encode() not in all_bytes(answer)
    assert answer.error.reason == "STORAGE"


def test_the_sentence_and_the_traceback_stay_at_the_site(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "prostafed.client.rounds.answer._introduce", failing(OSError(errno.ENOSPC, "No space left", PATH))
    )
    told: list[Event] = []
    with caplog.at_level(logging.ERROR, "prostafed.site"), listening(told.append):
        exchange(folder / "site.toml", study, action="hello")
    assert PATH in caplog.text
    assert "Traceback" in caplog.text
    assert [type(event) for event in told] == [Said]


def test_what_a_coordinator_sent_is_logged_short_and_printable(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = "unknown key '\x1b[2J" + "x" * 10**6
    monkeypatch.setattr("prostafed.client.rounds.answer._introduce", failing(ConfigurationError(sent)))
    told: list[Event] = []
    with caplog.at_level(logging.ERROR, "prostafed.site"), listening(told.append):
        exchange(folder / "site.toml", study, action="hello")
    assert "unknown key" in caplog.text
    assert "\x1b" not in caplog.text + repr(told)
    assert len(caplog.text) < 2 * site_app.MOST_LOGGED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_a_site_that_is_told_to_stop_stops(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("prostafed.client.rounds.answer._introduce", failing(error))
    with pytest.raises(type(error)):
        exchange(folder / "site.toml", study, action="hello")


def without_content(message: Message) -> None:
    message.content = RecordDict()


def of_another_kind(message: Message) -> None:
    message.metadata.__dict__["_message_type"] = "query.secrets"


@pytest.mark.parametrize("change", [without_content, of_another_kind])
def test_a_damaged_request_is_refused(folder: Path, study: Study, change: Callable[[Message], None]) -> None:
    answer = exchange(folder / "site.toml", study, change)
    assert answer.error.reason == "UNKNOWN_REQUEST"


@pytest.mark.parametrize(
    "asked",
    [
        {"stage": 0},
        {"stage": 2},
        {"stage": -1},
        {"round": 0},
        {"round": 4},
        {"action": "evaluate", "splits": ("test", "patients")},
        {"action": "evaluate", "splits": ("../../memory",)},
        {"action": "evaluate", "splits": ("validation", "validation")},
        {"action": "evaluate", "splits": ()},
        {"action": "evaluate", "splits": ("test",), "round": 2},
    ],
    ids=repr,
)
def test_what_the_study_does_not_ask_for_is_refused(folder: Path, study: Study, asked: dict[str, Any]) -> None:
    answer = exchange(folder / "site.toml", study, tensors=initial(study), **asked)
    assert answer.error.reason == "UNKNOWN_REQUEST"


def test_a_partition_that_does_not_exist_is_not_told_of(study: Study, tmp_path: Path) -> None:
    context = Context(1, 100, {"partition-id": 3}, RecordDict(), {"study": study.canonical(), "sites": str(tmp_path)})
    (message,) = pack_request(Request("hello"), [100], 60.0)
    LocalGrid(site_app.app, [], {})  # names this process as the sender of messages
    answer = site_app.app(cross_wire(identify(message)), context)
    assert answer.error.reason == "INTERNAL"


def test_a_hospital_answers_what_it_approved_and_opens_no_case_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalGrid(site_app.app, [], {})
    study, site_file = make_study(FINETUNE), write_site(tmp_path / "north", SERVER)
    create_node_key(tmp_path / "north" / "north.key", "north")
    request = Request("hello", study_hash=study.hash())
    (message,) = pack_request(request, [7], 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(site_app, "open_workplace", lambda *_: pytest.fail("it looked at its cases"))
        asked = cross_wire(identify(message))
        refused = site_app.respond(asked, site_file, {"study": study.canonical()})
    assert unpack_reply(refused, request) == Refusal("NOT_APPROVED")
    approve(site_file, study)
    answered = unpack_reply(site_app.respond(asked, site_file, {"study": study.canonical()}), request)
    assert getattr(answered, "site", "") == "north"
    assert read_audit(site_file.parent)[0][-1]["event"] == "answered"


def test_nothing_leaves_that_cannot_be_recorded(tmp_path: Path) -> None:
    LocalGrid(site_app.app, [], {})
    study, site_file = make_study(FINETUNE), write_site(tmp_path / "north", SERVER)
    create_node_key(tmp_path / "north" / "north.key", "north")
    approve(site_file, study)
    (site_file.parent / "audit.jsonl").write_text("damaged\n")
    request = Request("hello", study_hash=study.hash())
    (message,) = pack_request(request, [7], 60.0)
    answered = site_app.respond(cross_wire(identify(message)), site_file, {"study": study.canonical()})
    assert unpack_reply(answered, request) == Refusal("CHECKPOINT")
