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
from typing import TYPE_CHECKING

from prostafed.client.connect.fleet import Outgoing, inflate, pack, refuse_message
from prostafed.client.connect.frames import Ask, Part, Ready
from prostafed.client.connect.status import UNUSABLE, WORKER_LOCK
from prostafed.common.errors import RequestError
from prostafed.common.shell.files import holding
from prostafed.common.shell.leaving import Interrupted, leave_on_sigterm

LOOK_S = 60.0  # with nothing to do, so often it is seen whether the GPU is there still

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("prostafed.site")


def serve(site_file: Path, link: Connection) -> None:
    """Answer what comes through `link` until it closes; ends where the GPU is lost, so that a new process is made."""
    device = _load(site_file)
    seen = name_device(device)
    logger.info("Ready, on %s.", seen)
    link.send(Ready(seen))
    contents: dict[str, bytes] = {}
    while True:
        while not link.poll(LOOK_S):
            if name_device(device) != seen:
                raise SystemExit("The GPU is not what it was. A new process may see it again.")
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


def _load(site_file: Path) -> "torch.device":
    """Import all that a round needs, and return the device that the site file grants."""
    import monai.networks.nets  # noqa: F401 - loaded now, not with the first request

    from prostafed.client import app  # noqa: F401
    from prostafed.client.rounds.workplace import choose_device
    from prostafed.client.site.site_file import read_site_file

    return choose_device(read_site_file(site_file))


def name_device(device: "torch.device") -> str:
    """Take a step of training on a device, and return the name of the GPU, or cpu; UNUSABLE follows where it fails."""
    import torch

    try:
        network = torch.nn.Linear(1, 1, device=device)
        network(torch.zeros(1, 1, device=device)).sum().backward()
        torch.optim.AdamW(network.parameters()).step()  # the first of a process takes seconds
        return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"
    except (RuntimeError, AssertionError):
        return f"{device}, {UNUSABLE}"


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
    with gone, holding(site_file.parent / WORKER_LOCK, wait=True):  # one that lost its link may still be leaving
        serve(site_file, link)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving


if __name__ == "__main__":
    main()
