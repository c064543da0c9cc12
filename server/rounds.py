"""One exchange with the sites: push to all, pull one reply at a time, hand it on, stop at the deadline. And the roll:
who is there now.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.serverapp import Grid

from prostafed.common.errors import RoundError
from prostafed.common.messages import Refusal, Reply, Request
from prostafed.common.tensors import count_bytes
from prostafed.common.wire import MALFORMED, pack_request, unpack_reply
from prostafed.server.admission import RejectedError, admit, read_cohort

POLL_S = 0.2
HELLO_S = 60.0  # a site that appears during a run has so long to introduce itself, or is asked again a round later
DROPOUTS = {  # why a site that was asked gave nothing, where it is not the site's own decision
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


class Roll:
    """The sites of a run over a grid: who is there now, and the messages of past rounds nobody answered in time."""

    def __init__(self, grid: Grid, study_hash: str, deadline_s: float) -> None:
        self._grid, self._study_hash, self._deadline_s = grid, study_hash, deadline_s
        self._names: dict[int, str] = {}  # node -> the site's own name
        self._here: dict[str, int] = {}
        self.cohorts: dict[str, dict[str, float]] = {}  # site -> what it chose to tell of its patients
        self._overdue: dict[str, dict[str, str]] = {}  # message -> whose answer to what it would be

    def assemble(self, expected: int) -> None:
        """Wait until `expected` sites are there.

        Raises RoundError when fewer came before the deadline, one refused, or two nodes call themselves the same.
        """
        deadline = time.monotonic() + self._deadline_s
        while len(nodes := list(self._grid.get_node_ids())) < expected:
            if time.monotonic() > deadline:
                raise RoundError(
                    f"{len(nodes)} of {expected} sites were there after {self._deadline_s:.0f} s. Start the others, "
                    "then run again."
                )
            time.sleep(POLL_S)
        refused = self._introduce(nodes, self._deadline_s)
        self._here = {name: node for node, name in self._names.items()}
        if refused or len(self._here) < expected:
            reasons = ", ".join(refused) or "no answer"
            names = ", ".join(sorted(self._here)) or "none"
            raise RoundError(f"Of {expected} sites {len(self._here)} are ready ({names}): {reasons}.")

    def present(self) -> list[str]:
        """Return the names of the sites that are there now, sorted; new ones introduce themselves first."""
        nodes = set(self._grid.get_node_ids())
        if new := nodes - set(self._names):
            self._introduce(sorted(new), min(HELLO_S, self._deadline_s))
        self._here = {name: node for node, name in self._names.items() if node in nodes}
        return sorted(self._here)

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, enough: int = 0) -> Exchange:
        """Ask `sites`, those of them that are still there; as `ask_sites`, and answers to past rounds are put aside."""
        nodes = {site: self._here[site] for site in sites if site in self._here}
        late = self._collect_late()
        exchange, silent = ask_sites(self._grid, nodes, request, self._deadline_s, on_reply, enough=enough)
        late += self._collect_late()
        place = {"stage": str(request.stage), "round": str(request.round), "action": request.action}
        self._overdue |= {message: {"site": site, **place} for message, site in silent.items()}
        exchange.late = late
        return exchange

    def _collect_late(self) -> list[dict[str, str]]:
        late = []
        for message_id in list(self._overdue):
            for message in self._grid.pull_messages([message_id]):
                overdue = self._overdue.pop(message_id)
                if not message.has_error():
                    late.append(overdue)
        return late

    def _introduce(self, nodes: Sequence[int], deadline_s: float) -> list[str]:
        """Ask `nodes` for their names and return why some of them gave none that can be used."""

        def on_reply(node: str, reply: Reply) -> None:
            if reply.site in {name for known, name in self._names.items() if known in present}:
                raise RejectedError("SAME_NAME", f"two nodes call themselves {reply.site}")
            self._names[int(node)] = reply.site
            if cohort := read_cohort(reply.metrics):
                self.cohorts[reply.site] = cohort

        present = set(self._grid.get_node_ids())
        hello = Request("hello", study_hash=self._study_hash)
        asked = {str(node): node for node in nodes}
        exchange, _ = ask_sites(self._grid, asked, hello, deadline_s, on_reply, check_site=False)
        self._names = {node: name for node, name in self._names.items() if node in present}
        return [f"{entry['code']} {entry['text']}".strip() for entry in exchange.rejections]


def ask_sites(
    grid: Grid,
    nodes: Mapping[str, int],
    request: Request,
    deadline_s: float,
    on_reply: OnReply,
    *,
    enough: int = 0,
    check_site: bool = True,
) -> tuple[Exchange, dict[str, str]]:
    """Send `request` to all sites and pass each admitted reply to `on_reply` as it arrives: one reply in memory at a
    time. Return what came of it, and the sites that had not answered by the end, by message.

    A refusal, a reply that is not admitted, one that `on_reply` rejects and a site silent until the deadline are
    rejections; none of them stops the exchange. With `enough` it ends once so many replies were taken.
    """
    deadline = time.monotonic() + deadline_s
    waiting: dict[str, str] = {}
    exchange = Exchange()
    for site, message in zip(nodes, pack_request(request, list(nodes.values()), deadline_s), strict=True):
        (message_id,) = grid.push_messages([message])
        waiting[message_id] = site
        exchange.bytes_down += count_bytes(request.tensors)
    most = enough or len(waiting)
    while waiting and len(exchange.replies) < most and time.monotonic() < deadline:
        before = len(waiting)
        for message_id in list(waiting):
            if len(exchange.replies) >= most:
                break
            for message in grid.pull_messages([message_id]):
                _take(unpack_reply(message), waiting.pop(message_id), request, on_reply, exchange, check_site)
        if len(waiting) == before:
            time.sleep(POLL_S)
    closed = len(exchange.replies) >= most
    code, text = (NOT_NEEDED, "enough others answered") if closed else ("DEADLINE", f"no answer in {deadline_s:.0f} s")
    exchange.rejections += [{"site": site, "code": code, "text": text} for site in waiting.values()]
    exchange.replies.sort()
    exchange.rejections.sort(key=lambda entry: entry["site"])
    return exchange, waiting


def _take(
    reply: Reply | Refusal,
    site: str,
    request: Request,
    on_reply: OnReply,
    exchange: Exchange,
    check_site: bool,
) -> None:
    if isinstance(reply, Refusal):
        said = DROPOUTS.get(reply.code, "the site refused; its own log says why")
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
