"""One exchange with the sites: push to all, pull one reply at a time, hand it on, stop at the deadline."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.serverapp import Grid

from prostafed.common.errors import RoundError
from prostafed.common.messages import Refusal, Reply, Request
from prostafed.common.tensors import count_bytes
from prostafed.common.wire import MALFORMED, pack_request, unpack_reply
from prostafed.server.admission import RejectedError, admit

POLL_S = 0.2


@dataclass
class Exchange:
    """What an exchange gave, one line of the round record in the making."""

    replies: list[str] = field(default_factory=list)
    rejections: list[dict[str, str]] = field(default_factory=list)
    bytes_down: int = 0  # server to sites, tensors only
    bytes_up: int = 0


def find_sites(grid: Grid, expected: int, deadline_s: float, study_hash: str) -> dict[str, int]:
    """Return the node of each site, by the site's own name, once `expected` nodes are there.

    Raises RoundError when fewer came before the deadline, or two nodes call themselves the same.
    """
    deadline = time.monotonic() + deadline_s
    while len(nodes := list(grid.get_node_ids())) < expected:
        if time.monotonic() > deadline:
            raise RoundError(
                f"{len(nodes)} of {expected} sites were there after {deadline_s:.0f} s. Start the others, "
                "then run again."
            )
        time.sleep(POLL_S)
    found: dict[str, int] = {}

    def on_reply(node: str, reply: Reply) -> None:
        if reply.site in found:
            raise RejectedError("SAME_NAME", f"two nodes call themselves {reply.site}")
        found[reply.site] = int(node)

    hello = Request("hello", study_hash=study_hash)
    exchange = ask_sites(grid, {str(node): node for node in nodes}, hello, deadline_s, on_reply, check_site=False)
    if exchange.rejections or len(found) < expected:
        reasons = ", ".join(f"{entry['code']} {entry['text']}".strip() for entry in exchange.rejections) or "no answer"
        raise RoundError(
            f"Of {expected} sites {len(found)} are ready ({', '.join(sorted(found)) or 'none'}): {reasons}."
        )
    return dict(sorted(found.items()))


def ask_sites(
    grid: Grid,
    nodes: dict[str, int],
    request: Request,
    deadline_s: float,
    on_reply: Callable[[str, Reply], None],
    check_site: bool = True,
) -> Exchange:
    """Send `request` to all sites and pass each admitted reply to `on_reply` as it arrives: one reply in memory at a
    time.

    A refusal, a reply that is not admitted, one that `on_reply` rejects and a site silent until the deadline are
    rejections; none of them stops the exchange.
    """
    deadline = time.monotonic() + deadline_s
    waiting: dict[str, str] = {}
    exchange = Exchange()
    for site, node in nodes.items():
        (message_id,) = grid.push_messages([pack_request(request, node)])
        waiting[message_id] = site
        exchange.bytes_down += count_bytes(request.tensors)
    while waiting and time.monotonic() < deadline:
        before = len(waiting)
        for message_id in list(waiting):
            for message in grid.pull_messages([message_id]):
                _take(unpack_reply(message), waiting.pop(message_id), request, on_reply, exchange, check_site)
        if len(waiting) == before:
            time.sleep(POLL_S)
    for site in waiting.values():
        exchange.rejections.append({"site": site, "code": "DEADLINE", "text": f"no answer within {deadline_s:.0f} s"})
    exchange.replies.sort()
    exchange.rejections.sort(key=lambda entry: entry["site"])
    return exchange


def _take(
    reply: Reply | Refusal,
    site: str,
    request: Request,
    on_reply: Callable[[str, Reply], None],
    exchange: Exchange,
    check_site: bool,
) -> None:
    if isinstance(reply, Refusal):
        said = "the answer could not be read" if reply.code == MALFORMED else "the site refused; its own log says why"
        exchange.rejections.append({"site": site, "code": reply.code, "text": said})
        return
    try:
        if check_site:
            admit(reply, request, site)
        on_reply(site, reply)
    except RejectedError as rejection:
        exchange.rejections.append({"site": site, "code": rejection.code, "text": str(rejection)})
        return
    exchange.replies.append(site)
    exchange.bytes_up += count_bytes(reply.tensors)
