"""One exchange with the sites: push to all, pull one reply at a time, hand it on, stop at the deadline."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.kinds import REFUSALS, REFUSED, UNKNOWN_REFUSAL
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import FLOWER_ERROR, MALFORMED, unpack_reply
from prostafed.common.tensors import count_bytes
from prostafed.server.exchange.admission import RejectedError, admit
from prostafed.server.exchange.waiting import Waiting

FIRST_POLL_S, POLL_S, SLOWER = (
    0.05,
    0.5,
    1.25,
)  # between looks for answers: at first, at most, times each that found none
REASONS = {  # why a site that was asked gave nothing that can be used
    **REFUSALS,
    UNKNOWN_REFUSAL: "the site refused with a code that this release does not know; its own log says why",
    FLOWER_ERROR: "Flower could not have the site answer; the site's own log may say why",
    MALFORMED: "the answer could not be read",
    "NODE_LOST": "the connection to the site was lost",
    "NODE_UNAVAILABLE": "the site did not take the request",
    "SITE_CRASHED": "the site's process died; its own log may say why",
}
IMPOSTORS = ("WRONG_NAME", "WRONG_NODE")  # answers that were another's than the site that was asked
NOT_NEEDED = "NOT_NEEDED"  # enough others were quicker

# (site, reply) -> None; raises RejectedError where it cannot be used
OnReply = Callable[[str, Reply], None]


@dataclass(frozen=True)
class Terms:
    """How an exchange ends: at `deadline_s`, or once `close_after` replies were taken, where that is not 0. `again`
    says whose failure is not the end, as AGAIN_S.
    """

    deadline_s: float
    close_after: int = 0
    again: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Exchange:
    """What an exchange gave, one line of the round record in the making."""

    replies: list[str] = field(default_factory=list)
    rejections: list[dict[str, str]] = field(default_factory=list)
    late: list[dict[str, str]] = field(default_factory=list)  # answers to earlier exchanges that came now: not used
    bytes_down: int = 0  # server to sites, tensors and what is said about masks
    bytes_up: int = 0


def ask_sites(
    grid: Grid, nodes: Mapping[str, int], request: Request, terms: Terms, on_reply: OnReply
) -> tuple[Exchange, dict[str, str]]:
    """Send `request` to all sites and pass each admitted reply to `on_reply` as it arrives: one reply in memory at a
    time. Return what came of it, and the messages nobody had answered by the end, each with its site.

    A refusal, a reply that is not admitted, one that `on_reply` rejects and a site silent until the deadline are
    rejections; none of them stops the exchange. A site that failed with a code of `terms.again` is asked once more as
    soon as it is connected: its rejection is final at the deadline only.
    """
    deadline = time.monotonic() + terms.deadline_s
    exchange, waiting = Exchange(), Waiting(grid, nodes, request, deadline, terms.again)
    most = terms.close_after or len(nodes)
    last, pauses = False, pause(deadline)
    while waiting.sites and len(exchange.replies) < most and not last:
        last = time.monotonic() >= deadline  # who answered while another's answer was long in coming is taken as well
        waiting.ask_again()
        if _pull_all(grid, waiting, exchange, most, on_reply):
            pauses = pause(deadline)
        elif not last:
            next(pauses)
    exchange.bytes_down = waiting.asked * (count_bytes(request.tensors) + len(request.masks))
    closed = len(exchange.replies) >= most
    for site, asked in list(waiting.sites.items()):
        waiting.reject(site, *_say_silence(asked.failure, request, terms, closed))
    exchange.replies.sort()
    exchange.rejections = sorted(waiting.rejections, key=lambda entry: entry["site"])
    return exchange, waiting.messages


def pause(deadline: float) -> Iterator[None]:
    """Wait a little at each step, longer each time, never past `deadline`: who asks all the time keeps a core busy."""
    wait_s = FIRST_POLL_S
    while True:
        time.sleep(max(0.0, min(wait_s, POLL_S, deadline - time.monotonic())))
        yield
        wait_s = min(wait_s * SLOWER, POLL_S)


def pull_answer(grid: Grid, message_id: str) -> Sequence[Message | None]:
    """Return the answer to a message, [] as long as there is none, [None] where Flower itself cannot read it."""
    try:
        return list(grid.pull_messages([message_id]))[:1]
    except Exception:
        grid.get_node_ids()  # raises where it is the link that fails, not what the site sent
        return [None]


def _pull_all(grid: Grid, waiting: Waiting, exchange: Exchange, most: int, on_reply: OnReply) -> bool:
    """Take what has come, at most one answer of each site; return whether anything has."""
    found = False
    for message_id, site in list(waiting.messages.items()):
        if len(exchange.replies) >= most or site not in waiting.sites:  # answered by another of its messages just now
            continue
        for message in pull_answer(grid, message_id):
            found = True
            del waiting.messages[message_id]
            try:
                reply = _read(message, waiting.nodes[site], site, waiting.request)
                on_reply(site, reply)
            except RejectedError as rejection:
                waiting.fail(site, rejection.code, str(rejection))
            else:
                del waiting.sites[site]
                exchange.replies.append(site)
                exchange.bytes_up += count_bytes(reply.tensors) + len(reply.masks)
    return found


def _read(message: Message | None, node: int, site: str, request: Request) -> Reply:
    """Return the reply of `site`, whose node is `node`; raises RejectedError where there is none, or it is another's.

    What is said to "hello" is for the roster to judge.
    """
    by_flower = message and message.has_error() and message.error.code < REFUSED  # such errors are its own
    if message and not by_flower and message.metadata.src_node_id != node:
        text = f"node {message.metadata.src_node_id} answered in its place; nobody may answer for another site"
        raise RejectedError("WRONG_NODE", text)
    try:
        reply = unpack_reply(message, request) if message else Refusal(MALFORMED)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    if isinstance(reply, Refusal):
        raise RejectedError(reply.code, REASONS[reply.code])
    if request.action != "hello":
        admit(reply, request, site)
    return reply


def _say_silence(failure: tuple[str, str] | None, request: Request, terms: Terms, closed: bool) -> tuple[str, str]:
    """Return code and text of the rejection of a site that has given nothing by the end."""
    if closed:
        return NOT_NEEDED, "enough others answered"
    if failure:
        code, text = failure
        return code, f"{text}; no answer came in {terms.deadline_s:g} s, however often it was asked"
    advice = "" if request.action == "hello" else ", the deadline_s of the study's [round]; raise it for a slow site"
    return "DEADLINE", f"no answer in {terms.deadline_s:g} s{advice}"
