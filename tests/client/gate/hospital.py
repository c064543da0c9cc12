"""A hospital with a key, cases and an approved study, and what its coordinator gets of it: through the whole worker."""

from dataclasses import replace
from pathlib import Path

from flwr.app import Message
from flwr.clientapp import ClientApp

from prostafed.client.app import respond
from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import pack_request, unpack_reply
from prostafed.common.shell.keys import create_node_key
from prostafed.common.study import Study
from prostafed.simulations.run.engine.grid import LocalGrid, cross_wire, identify
from tests.client.gate.approved import SERVER, approve
from tests.client.tiny_site import FINETUNE, ask, make_study, write_site

STUDY = make_study({**FINETUNE, "epochs": 1})


def make_hospital(folder: Path, settings: str = "", cases: int = 10, study: Study = STUDY, rounds: int = 9) -> Path:
    """Return the site file of a hospital in the new folder `folder`, which has approved `study`."""
    open_workplace.cache_clear()
    privacy = "" if "minimum_cohort" in settings else "minimum_cohort = 1\n"
    site_file = write_site(folder, f"{SERVER}\n[privacy]\n{privacy}{settings}", cases)
    create_node_key(folder / "north.key", "north")
    approve(site_file, study, rounds=rounds)
    return site_file


def put(site_file: Path, request: Request, study: Study = STUDY, run: int = 1) -> Reply | Refusal:
    """Return what the hospital answers to a request of a run; any tensors may come back, since the site's own gate is
    to hold, and not the server's.
    """
    answer = respond(make_message(request, run), site_file, {"study": study.canonical()})
    return unpack_reply(answer, replace(request, returns=None))


def make_message(request: Request, run: int = 1) -> Message:
    """Return a request as it comes by wire."""
    LocalGrid(ClientApp(), [], {})  # names this process as the sender of messages
    (message,) = pack_request(request, [7], 60.0)
    message.metadata.__dict__["_run_id"] = run
    return cross_wire(identify(message))


def ask_round(number: int = 1, study: Study = STUDY) -> Request:
    """Return the request to train a round."""
    return ask(study, number)
