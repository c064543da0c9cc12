"""One exchange with the sites: push to all, pull one reply at a time, hand it on, stop at the deadline."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.messages import REFUSALS, UNKNOWN_REFUSAL, Refusal, Reply, Request
from prostafed.common.exchange.wire import FLOWER_ERROR, MALFORMED, pack_request, unpack_reply
from prostafed.common.tensors import count_bytes
from prostafed.server.exchange.admission import RejectedError, admit

POLL_S = 0.2
REASONS = {  # why a site that was asked gave nothing that can be used
    **REFUSALS,
    UNKNOWN_REFUSAL: "the site refused with a code that this release does not know; its own log says why",
    FLOWER_ERROR: "Flower could not have the site answer; the site's own log may say why",
    MALFORMED: "the answer could not be read",
    "NODE_LOST": "the connection to the site was lost",
    "NODE_UNAVAILABLE": "the site did not take the request",
    "SITE_CRASHED": "the site's process died; its own log may say why",
}
NOT_NEEDED = "NOT_NEEDED"  # enough others were quicker

# (site, reply) -> None; raises RejectedError where it cannot be used
OnReply = Callable[[str, Reply], None]


@dataclass
class Exchange:
    """What an exchange gave, one line of the round record in the making."""

    replies: list[str] = field(default_factory=list)
    rejections: list[dict[str, str]] = field(default_factory=list)
    late: list[dict[str, str]] = field(default_factory=list)  # answers to earlier exchanges that came now: not used
    bytes_down: int = 0  # server to sites, tensors only
    bytes_up: int = 0


def ask_sites(
    grid: Grid,
    nodes: Mapping[str, int],
    request: Request,
    deadline_s: float,
    on_reply: OnReply,
    *,
    close_after: int = 0,
    check_site: bool = True,
) -> tuple[Exchange, dict[str, str]]:
    """Send `request` to all sites and pass each admitted reply to `on_reply` as it arrives: one reply in memory at a
    time. Return what came of it, and the sites that had not answered by the end, by message.

    A refusal, a reply that is not admitted, one that `on_reply` rejects and a site silent until the deadline are
    rejections; none of them stops the exchange. With `close_after` it ends once so many replies were taken.
    """
    deadline = time.monotonic() + deadline_s
    waiting: dict[str, str] = {}
    exchange = Exchange()
    for site, request_message in zip(nodes, pack_request(request, list(nodes.values()), deadline_s), strict=True):
        (message_id,) = grid.push_messages([request_message])
        waiting[message_id] = site
        exchange.bytes_down += count_bytes(request.tensors)
    most = close_after or len(waiting)
    last = False
    while waiting and len(exchange.replies) < most and not last:
        last = time.monotonic() >= deadline  # who answered while another's answer was long in coming is taken as well
        before = len(waiting)
        for message_id in list(waiting):
            if len(exchange.replies) >= most:
                break
            for message in pull_answer(grid, message_id):
                _take(message, waiting.pop(message_id), request, on_reply, exchange, check_site)
        if len(waiting) == before and not last:
            time.sleep(POLL_S)
    closed = len(exchange.replies) >= most
    advice = "" if request.action == "hello" else ", the deadline_s of the study's [round]; raise it for a slow site"
    late = f"no answer in {deadline_s:g} s{advice}"
    code, text = (NOT_NEEDED, "enough others answered") if closed else ("DEADLINE", late)
    exchange.rejections += [{"site": site, "code": code, "text": text} for site in waiting.values()]
    exchange.replies.sort()
    exchange.rejections.sort(key=lambda entry: entry["site"])
    return exchange, waiting


def pull_answer(grid: Grid, message_id: str) -> Sequence[Message | None]:
    """Return the answer to a message, [] as long as there is none, [None] where Flower itself cannot read it."""
    try:
        return list(grid.pull_messages([message_id]))[:1]
    except Exception:
        grid.get_node_ids()  # raises where it is the link that fails, not what the site sent
        return [None]


def _read(message: Message | None, request: Request) -> Reply:
    try:
        reply = unpack_reply(message, request) if message else Refusal(MALFORMED)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    if isinstance(reply, Refusal):
        raise RejectedError(reply.code, REASONS[reply.code])
    return reply


def _take(
    message: Message | None, site: str, request: Request, on_reply: OnReply, exchange: Exchange, check_site: bool
) -> None:
    try:
        reply = _read(message, request)
        if check_site:
            admit(reply, request, site)
        on_reply(site, reply)
    except RejectedError as rejection:
        exchange.rejections.append({"site": site, "code": rejection.code, "text": str(rejection)})
    else:
        exchange.replies.append(site)
        exchange.bytes_up += count_bytes(reply.tensors)
