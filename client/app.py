"""The site's ClientApp: the shell around `answer.py`. It is installed at the site; a run brings a study, never code."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from prostafed.client.gate.approval import require_approval
from prostafed.client.gate.audit import record_answer, record_request
from prostafed.client.gate.halt import require_going
from prostafed.client.gate.outbox import note_left
from prostafed.client.gate.release import Released, refuse
from prostafed.client.rounds.answer import answer
from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.errors import ConfigurationError, ProstafedError, RequestError
from prostafed.common.exchange.kinds import MESSAGE_TYPES
from prostafed.common.exchange.messages import Refusal, Request
from prostafed.common.exchange.wire import pack_reply, unpack_request
from prostafed.common.shell.progress import Said, tell
from prostafed.common.study import parse_study

MOST_LOGGED = 2000  # letters of a sentence
APPROVED_ONLY = "approved-only"  # set by a hospital's worker; a simulation asks nobody

logger = logging.getLogger("prostafed.site")


class SiteApp(ClientApp):
    """A ClientApp that lets no exception out: Flower would send its text, which can hold a patient's name."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one request. What went wrong is logged here at the site; only its kind is sent."""
        try:
            if message.metadata.message_type not in MESSAGE_TYPES.values():
                raise RequestError("The coordinator sent a message of a kind that this release does not know.")
            return super().__call__(message, context)
        except KeyboardInterrupt:
            raise  # Ctrl-C ends the process
        except BaseException as error:
            if isinstance(error, SystemExit) and not isinstance(error.code, str):
                raise  # so does a signal, and neither says anything
            _note(error, context)
            return _send(refuse(error), message)


app = SiteApp()


@app.query("hello")
@app.query("keys")
@app.query("shares")
@app.query("agree")
@app.query("unmask")
@app.train("round")
@app.evaluate("round")
def handle(message: Message, context: Context) -> Message:
    """Return the answer to one request."""
    request, site_file, study = _read(message), find_site_file(context), str(context.run_config["study"])
    hospital = bool(context.node_config.get(APPROVED_ONLY))
    peers = None
    if hospital:
        require_going(site_file.parent)
        peers = require_approval(site_file, parse_study(study), request).peers
        record_request(site_file.parent, request)
    place = open_workplace(site_file, study, context.run_id)
    if hospital and place.site.privacy.noise_seed is not None:
        raise ConfigurationError(
            f"{site_file} sets noise_seed: noise that can be repeated hides nobody. It is for simulations; remove it."
        )
    released = answer(place, request, peers)
    if hospital:
        require_going(site_file.parent)
        note_left(site_file.parent, request, released)
        record_answer(site_file.parent, request, released)
    return _send(released, message)


def respond(message: Message, site_file: Path, run_config: Mapping[str, bool | int | float | str]) -> Message:
    """Return a hospital's answer to a message of its coordinator: no case is opened for a study nobody approved."""
    node: dict[str, bool | int | float | str] = {"site": str(site_file), APPROVED_ONLY: True}
    about = message.metadata
    return app(message, Context(about.run_id, about.dst_node_id, node, RecordDict(), dict(run_config)))


def _send(what: Released | Refusal, message: Message) -> Message:
    """Return the message that leaves the site: an answer that was released, or a code of the list."""
    return pack_reply(what, message)


def _read(message: Message) -> Request:
    try:
        return unpack_request(message)
    except (MemoryError, ProstafedError):
        raise
    except Exception as error:  # whatever comes by wire is not the site's failure
        raise RequestError("The coordinator sent a request that cannot be read.") from error


def _note(error: BaseException, context: Context) -> None:
    """Log what went wrong, where nobody foresaw it with its traceback, and say it to whoever watches here."""
    with suppress(Exception):  # the request is answered, whatever comes of this
        foreseen = isinstance(error, ProstafedError)
        said = _limit(str(error)) if foreseen else str(error)
        logger.error("%s", said, exc_info=None if foreseen else error)
        tell(Said(find_site_file(context).parent.name, said or type(error).__name__))


def _limit(text: str) -> str:
    """Return a sentence as it may be logged and shown: it can repeat what a coordinator sent."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text[:MOST_LOGGED])


def find_site_file(context: Context) -> Path:
    """Return the site file of this node: named by the node itself, or, in a simulation, the partition-id-th of run
    config `sites`.
    """
    if "site" in context.node_config:
        return Path(str(context.node_config["site"]))
    partition = int(context.node_config["partition-id"])
    return sorted(Path(str(context.run_config["sites"])).glob("*/site.toml"))[partition]
