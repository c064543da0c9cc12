"""The resident worker: it loads torch and the installed release once, then answers what the link hands it.

It runs as a program of its own: `python -m prostafed.client.connect.worker SITE.toml DESCRIPTOR`. It opens no
connection; what it reads and writes goes through the descriptor it was given. Where it is asked to leave, it keeps the
round in the making and leaves; where the link is gone, too.
"""

import gc
import logging
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from prostafed.client.connect.fleet import Outgoing, inflate, pack, refuse_message
from prostafed.client.connect.frames import Ask, Part, Ready
from prostafed.common.errors import RequestError
from prostafed.common.shell.files import holding
from prostafed.common.shell.leaving import Interrupted, leave_on_sigterm

LOCK = ".worker.lock"

logger = logging.getLogger("prostafed.site")


def serve(site_file: Path, link: Connection) -> None:
    """Answer what comes through `link` until it closes."""
    device = _load(site_file)
    logger.info("Ready, on %s.", device)
    link.send(Ready(device))
    contents: dict[str, bytes] = {}
    while True:
        said = link.recv()
        if isinstance(said, Part):
            contents[said.name] = said.content
            continue
        logger.info("Answering %s, %s.", said.incoming.kind, said.incoming.group)
        answer = _answer(site_file, said, contents)
        contents.clear()
        for name, content in answer.contents.items():
            link.send(Part(name, content))
        link.send(Outgoing(answer.header, answer.tree, {}, answer.refusal))
        del answer
        _free()


def _load(site_file: Path) -> str:
    """Import all that a round needs, take a step with it, and return the name of the device."""
    import monai.networks.nets  # noqa: F401 - loaded now, not with the first request
    import torch

    from prostafed.client import app  # noqa: F401
    from prostafed.client.rounds.workplace import choose_device
    from prostafed.client.site.site_file import read_site_file

    device = choose_device(read_site_file(site_file))
    try:
        network = torch.nn.Linear(1, 1, device=device)
        network(torch.zeros(1, 1, device=device)).sum().backward()
        torch.optim.AdamW(network.parameters()).step()  # the first of a process takes seconds
        return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"
    except (RuntimeError, AssertionError):
        return f"{device}, which cannot be used"


def _answer(site_file: Path, ask: Ask, contents: dict[str, bytes]) -> Outgoing:
    from prostafed.client.app import respond

    try:
        message = inflate(ask.incoming, contents)
    except RequestError:
        return refuse_message(ask.incoming, RequestError.code)
    except MemoryError:
        return refuse_message(ask.incoming, "MEMORY")
    return pack(respond(message, site_file, ask.config), ask.incoming)


def _free() -> None:
    """Give back what a round took, of main memory and of the GPU."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def main() -> None:
    """Entry point."""
    site_file, link = Path(sys.argv[1]), Connection(int(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    leave_on_sigterm()
    gone = suppress(Interrupted, EOFError, BrokenPipeError, ConnectionResetError)
    with gone, holding(site_file.parent / LOCK, wait=True):  # one that lost its link may still be leaving
        serve(site_file, link)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving


if __name__ == "__main__":
    main()
