"""The site's ClientApp: the shell around `work.py`. It is installed at the site; a run brings a study, never code."""

import logging
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from prostafed.client.work import Workplace, evaluate, introduce, open_workplace, train
from prostafed.common.errors import ProstafedError
from prostafed.common.messages import Refusal, Reply
from prostafed.common.progress import Said, tell
from prostafed.common.wire import pack_reply, unpack_request

logger = logging.getLogger("prostafed.site")
app = ClientApp()


@app.query("hello")
@app.train("round")
@app.evaluate("round")
def answer(message: Message, context: Context) -> Message:
    """Answer one request. What went wrong is logged here at the site; only its kind is sent."""
    site_file = find_site_file(context)
    try:
        reply: Reply | Refusal = _answer(message, open_workplace(site_file, str(context.run_config["study"])))
    except ProstafedError as error:
        logger.error("%s", error)
        tell(Said(site_file.parent.name, str(error)))
        reply = Refusal(type(error).__name__)
    return pack_reply(reply, message)


def _answer(message: Message, workplace: Workplace) -> Reply:
    request = unpack_request(message)
    match request.action:
        case "train":
            return train(workplace, request)
        case "evaluate":
            return evaluate(workplace, request)
        case _:
            return introduce(workplace)


def find_site_file(context: Context) -> Path:
    """Return the site file of this node: named by the node itself, or, in a simulation, the partition-id-th of run
    config `sites`.
    """
    if "site" in context.node_config:
        return Path(str(context.node_config["site"]))
    partition = int(context.node_config["partition-id"])
    return sorted(Path(str(context.run_config["sites"])).glob("*/site.toml"))[partition]
