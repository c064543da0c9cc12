"""The roster: who is there now, by name, and whose answer is overdue."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from flwr.serverapp import Grid

from prostafed.common.errors import RoundError
from prostafed.common.exchange.kinds import UNMASKING
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.secagg.records import Enrolled
from prostafed.common.shell.progress import Said, tell
from prostafed.server.exchange.admission import RejectedError, read_cohort
from prostafed.server.exchange.exchange import NOT_NEEDED, Exchange, OnReply, Terms, ask_sites, pause, pull_answer
from prostafed.server.exchange.waiting import AGAIN_S, NEVER

logger = logging.getLogger("prostafed.server")
ASK_AGAIN_S = 15.0  # a site that is not ready is asked so often, before the first round, whether it is now
ASK_LATER_S, LATER_S = 60.0, 600.0  # and so often once the run has waited so long
REST_S = 300.0  # and so seldom during a run, as long as nobody comes or goes
HELLO_S = 60.0  # a site that appears during a run has so long to introduce itself, or is asked again a round later
MOST_WAIT_S = 14 * 86400.0  # a hospital's ethics board and data manager decide in days, and are away for a week or two
WAITING = {  # what people decide, or the time of day; deadline_s does not count meanwhile
    "NOT_APPROVED": "is waiting for approval of the study",
    "RESTING": "rests; it takes part at other hours",
    "HALTED": "is halted: its people let nothing leave it until they say so",
}


def list_nodes(grid: Grid) -> dict[int, str]:
    """Return the nodes that are connected, each with the name its key is enrolled under; "" where the engine enrols
    nobody, as in a simulation.
    """
    return {node.node_id: node.name for node in grid.get_nodes()}


@dataclass(frozen=True)
class Unready:
    """Why a node cannot take part, since when (ISO 8601), and until when a run does not ask it again."""

    who: str  # its enrolled name, or "node 123" where it has none of its own
    code: str
    text: str
    since: str
    rest_until: float


class Roster:
    """The sites of a run over a grid: who is there now, and the messages of past rounds nobody answered in time.

    A site's name is that of its enrolled key; where no keys are, what a node said first is its name for the run.
    """

    def __init__(
        self,
        grid: Grid,
        study_hash: str,
        deadline_s: float,
        patient: bool = True,
        list_enrolled: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`patient`: whether a site that is lost or not ready can come back; in a simulation nothing does by itself.
        `list_enrolled` returns the public keys, by name, of those whom sites are told they would mask with.
        """
        self._list_enrolled = list_enrolled
        self._grid, self._study_hash, self._deadline_s, self._patient = grid, study_hash, deadline_s, patient
        self._names: dict[int, str] = {}  # node -> site, also of nodes that have gone
        self._here: dict[str, int] = {}
        self.cohorts: dict[str, dict[str, float]] = {}  # site -> what it chose to tell of its patients
        self.unready: dict[int, Unready] = {}  # of the nodes that are here
        self._seen: set[int] = set()
        self._overdue: dict[str, dict[str, str]] = {}  # message -> whose answer to what it would be; {} = one too many

    @property
    def enrolled(self) -> Mapping[str, str]:
        """The hospitals that may take part, and their public keys."""
        return self._list_enrolled()

    @property
    def refused(self) -> dict[str, str]:
        """Who is connected and cannot take part, and why."""
        return {each.who: f"{each.code} ({each.text})" for each in self.unready.values()}

    def assemble(self, expected: int, on_waiting: Callable[[Sequence[Unready]], None] = lambda unready: None) -> None:
        """Return once `expected` sites are ready, whoever else is not; those are asked again while there is time. As
        long as one of them waits for approval or rests, the time does not run. `on_waiting` is told who is not ready.

        Raises RoundError when fewer are ready at the deadline or, where nothing can change since not `patient`, once
        so many have answered.
        """
        started = since = time.monotonic()  # since when nobody waits for what people decide
        waits = False
        while True:
            now = time.monotonic()
            since = now if waits else since
            # Nobody who has come meanwhile waits long for one that is silent; one that is slow has its chance too.
            wait_s = (
                min(max(HELLO_S, now - since), since + self._deadline_s - now) if self._patient else self._deadline_s
            )
            nodes = list_nodes(self._grid)
            ready = self._find_ready(nodes, nodes.keys(), wait_s, expected)
            on_waiting(list(self.unready.values()))
            if len(ready) >= expected:
                return
            now = time.monotonic()
            waits = self._is_waiting() and now < started + MOST_WAIT_S
            ends = math.inf if waits else since + self._deadline_s
            until = min(now + (ASK_AGAIN_S if now < started + LATER_S else ASK_LATER_S), ends)
            final = not self._patient and len(nodes) >= expected
            pauses = pause(until)
            while not final and list_nodes(self._grid) == nodes and time.monotonic() < until:
                next(pauses)
            if final or time.monotonic() >= ends:
                self._give_up(expected, len(list_nodes(self._grid)))

    def _is_waiting(self) -> bool:
        return self._patient and any(each.code in WAITING for each in self.unready.values())

    def present(self) -> list[str]:
        """Return the names of the sites that are there now, sorted; new ones introduce themselves first, and those who
        could not take part are asked again once somebody came or went, or after a while.
        """
        nodes, now = list_nodes(self._grid), time.monotonic()
        resting = {node for node, each in self.unready.items() if nodes.keys() == self._seen and now < each.rest_until}
        return self._find_ready(nodes, nodes.keys() - resting, min(HELLO_S, self._deadline_s))

    def _find_ready(self, nodes: Mapping[int, str], ask: Set[int], wait_s: float, close_after: int = 0) -> list[str]:
        """Let those of `ask` introduce themselves that are not known yet; return who of `nodes` is ready."""
        known = nodes.keys() & self._names.keys()
        self.unready = {node: each for node, each in self.unready.items() if node in nodes}
        new = {node: nodes[node] for node in sorted(ask - known)}
        self._introduce(new, wait_s, max(0, close_after - len(known)))
        self._here = {name: node for node, name in self._names.items() if node in nodes}
        self._seen = set(nodes)
        return sorted(self._here)

    def _give_up(self, expected: int, connected: int) -> NoReturn:
        if connected < expected and not self.refused:
            raise RoundError(
                f"{connected} of {expected} sites were there after {self._deadline_s:g} s. Start the others, then run "
                "again, or raise deadline_s in the study's [round]."
            )
        reasons = "; ".join(f"{who}: {why}" for who, why in sorted(self.refused.items())) or "no answer"
        names = ", ".join(sorted(self._here)) or "none"
        raise RoundError(f"Of {expected} sites {len(self._here)} are ready ({names}). {reasons}.")

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
        """Ask `sites`, those of them that are still there; as `ask_sites`, and answers to past rounds are put aside."""
        nodes = {site: self._here[site] for site in sites if site in self._here}
        late = self._collect_late()
        terms = Terms(self._deadline_s, close_after, AGAIN_S if self._patient else NEVER)
        exchange, silent = ask_sites(self._grid, nodes, request, terms, on_reply)
        late += self._collect_late()
        place = {"stage": str(request.stage), "round": str(request.round), "action": request.action}
        for message, site in silent.items():  # one that has answered may do so twice, which nobody has to know
            expected = site not in exchange.replies and request.action not in UNMASKING
            self._overdue[message] = {"site": site, **place} if expected else {}
        exchange.late = late
        return exchange

    def _collect_late(self) -> list[dict[str, str]]:
        late = []
        for message_id in list(self._overdue):
            for message in pull_answer(self._grid, message_id):
                overdue = self._overdue.pop(message_id)
                if overdue and message and not message.has_error():
                    late.append(overdue)
        return late

    def _introduce(self, nodes: Mapping[int, str], deadline_s: float, close_after: int) -> None:
        """Ask `nodes`, each with its enrolled name, who they are; who cannot be used is entered in `unready`."""
        names = list(nodes.values())
        asked = {name if name and names.count(name) == 1 else f"node {node}": node for node, name in nodes.items()}

        def on_reply(who: str, reply: Reply) -> None:
            self._bind(asked[who], nodes[asked[who]], reply.site)
            if cohort := read_cohort(reply.metrics):
                self.cohorts[reply.site] = cohort

        enrolled = dict(self.enrolled)
        masks = Enrolled(sites=enrolled).pack() if enrolled else b""
        hello = Request("hello", study_hash=self._study_hash, masks=masks)
        exchange, _ = ask_sites(self._grid, asked, hello, Terms(deadline_s, close_after), on_reply)
        before = {node: self.unready.pop(node, None) for node in nodes}
        for entry in exchange.rejections:
            if entry["code"] != NOT_NEEDED:
                node = asked[entry["site"]]
                self._note_unready(node, entry, before[node])

    def _note_unready(self, node: int, entry: Mapping[str, str], before: Unready | None) -> None:
        """Enter why `node` cannot take part, and tell it where it is new."""
        who, code, text = entry["site"], entry["code"], entry["text"]
        known = before if before and (before.code, before.text) == (code, text) else None
        since = known.since if known else datetime.now(UTC).isoformat(timespec="seconds")
        self.unready[node] = Unready(who, code, text, since, time.monotonic() + REST_S)
        if not known:
            said = WAITING.get(code, f"cannot take part: {code} ({text})")
            logger.warning("%s %s", who, said)
            tell(Said(who, said))

    def _bind(self, node: int, enrolled: str, said: str) -> None:
        """Let `node` be the site it says it is, unless that is another's name or it is nobody that was enrolled."""
        if enrolled and said != enrolled:
            raise RejectedError(
                "WRONG_NAME", f"its key is enrolled as {enrolled}, its site file says {said}; mend the one or the other"
            )
        there = list_nodes(self._grid)
        if not enrolled and any(there.values()):
            raise RejectedError("NOT_ENROLLED", "its key is enrolled under no name, those of others are; enrol it")
        namesakes = [other for other, name in self._names.items() if name == said and other != node]
        if any(other in there or not enrolled for other in namesakes):
            raise RejectedError("SAME_NAME", f"another node is {said}; each site needs a name of its own")
        for other in namesakes:  # the same hospital's, before it was enrolled with a new key
            del self._names[other]
        self._names[node] = said
