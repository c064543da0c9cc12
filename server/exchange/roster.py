"""The roster: who is there now, by name, and whose answer is overdue."""

import logging
import time
from collections.abc import Mapping, Sequence, Set
from typing import NoReturn

from flwr.serverapp import Grid

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.progress import Said, tell
from prostafed.server.exchange.admission import RejectedError, read_cohort
from prostafed.server.exchange.exchange import NOT_NEEDED, POLL_S, Exchange, OnReply, ask_sites, pull_answer

logger = logging.getLogger("prostafed.server")
ASK_AGAIN_S = 15.0  # a site that is not ready is asked so often, before the first round, whether it is now
REST_S = 300.0  # and so seldom during a run, as long as nobody comes or goes
HELLO_S = 60.0  # a site that appears during a run has so long to introduce itself, or is asked again a round later


def list_nodes(grid: Grid) -> dict[int, str]:
    """Return the nodes that are connected, each with the name its key is enrolled under; "" where the engine enrols
    nobody, as in a simulation.
    """
    return {node.node_id: node.name for node in grid.get_nodes()}


class Roster:
    """The sites of a run over a grid: who is there now, and the messages of past rounds nobody answered in time.

    A site's name is that of its enrolled key; where no keys are, what a node said first is its name for the run.
    """

    def __init__(self, grid: Grid, study_hash: str, deadline_s: float) -> None:
        self._grid, self._study_hash, self._deadline_s = grid, study_hash, deadline_s
        self._names: dict[int, str] = {}  # node -> site, also of nodes that have gone
        self._here: dict[str, int] = {}
        self.cohorts: dict[str, dict[str, float]] = {}  # site -> what it chose to tell of its patients
        self.refused: dict[str, str] = {}  # site, or node where it has no name -> why it cannot take part
        self._asked: tuple[Set[int], float] = (
            set(),
            0.0,
        )  # who was there when all were asked last, how long that holds
        self._overdue: dict[str, dict[str, str]] = {}  # message -> whose answer to what it would be

    def assemble(self, expected: int, patient: bool = True) -> None:
        """Return once `expected` sites are ready, whoever else is not; those are asked again while there is time.

        Raises RoundError when fewer are ready at the deadline or, where nothing can change since not `patient`, once
        so many have answered.
        """
        started, deadline = time.monotonic(), time.monotonic() + self._deadline_s
        while True:
            now = time.monotonic()
            # Nobody who has come meanwhile waits long for one that is silent; one that is slow has its chance too.
            wait_s = min(max(HELLO_S, now - started), deadline - now) if patient else self._deadline_s
            if len(self._find_ready(wait_s, expected)) >= expected:
                return
            nodes, now = list_nodes(self._grid), time.monotonic()
            final = not patient and len(nodes) >= expected
            while not final and list_nodes(self._grid) == nodes and time.monotonic() < min(now + ASK_AGAIN_S, deadline):
                time.sleep(POLL_S)
            if final or time.monotonic() >= deadline:
                self._give_up(expected, len(nodes))

    def present(self) -> list[str]:
        """Return the names of the sites that are there now, sorted; new ones introduce themselves first."""
        nodes, until = self._asked
        if nodes == list_nodes(self._grid).keys() and time.monotonic() < until:
            return sorted(self._here)  # the others were asked just now, and a question costs a site a process
        ready = self._find_ready(min(HELLO_S, self._deadline_s))
        self._asked = list_nodes(self._grid).keys(), time.monotonic() + REST_S
        return ready

    def _find_ready(self, wait_s: float, close_after: int = 0) -> list[str]:
        nodes = list_nodes(self._grid)
        known = nodes.keys() & self._names.keys()
        new = {node: nodes[node] for node in sorted(nodes.keys() - known)}
        self._introduce(new, wait_s, max(0, close_after - len(known)))
        self._here = {name: node for node, name in self._names.items() if node in nodes}
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
        exchange, silent = ask_sites(self._grid, nodes, request, self._deadline_s, on_reply, close_after=close_after)
        late += self._collect_late()
        place = {"stage": str(request.stage), "round": str(request.round), "action": request.action}
        self._overdue |= {message: {"site": site, **place} for message, site in silent.items()}
        exchange.late = late
        return exchange

    def _collect_late(self) -> list[dict[str, str]]:
        late = []
        for message_id in list(self._overdue):
            for message in pull_answer(self._grid, message_id):
                overdue = self._overdue.pop(message_id)
                if message and not message.has_error():
                    late.append(overdue)
        return late

    def _introduce(self, nodes: Mapping[int, str], deadline_s: float, close_after: int) -> None:
        """Ask `nodes`, each with its enrolled name, who they are; who cannot be used is entered in `refused`."""
        names = list(nodes.values())
        asked = {name if name and names.count(name) == 1 else f"node {node}": node for node, name in nodes.items()}

        def on_reply(who: str, reply: Reply) -> None:
            self._bind(asked[who], nodes[asked[who]], reply.site)
            if cohort := read_cohort(reply.metrics):
                self.cohorts[reply.site] = cohort

        hello = Request("hello", study_hash=self._study_hash)
        exchange, _ = ask_sites(
            self._grid, asked, hello, deadline_s, on_reply, close_after=close_after, check_site=False
        )
        before, unready = self.refused, [entry for entry in exchange.rejections if entry["code"] != NOT_NEEDED]
        self.refused = {entry["site"]: f"{entry['code']} ({entry['text']})" for entry in unready}
        for who, why in self.refused.items():
            if before.get(who) != why:
                logger.warning("%s cannot take part: %s", who, why)
                tell(Said(who, why))

    def _bind(self, node: int, enrolled: str, said: str) -> None:
        """Let `node` be the site it says it is, unless that is another's name."""
        if enrolled and said != enrolled:
            raise RejectedError(
                "WRONG_NAME", f"its key is enrolled as {enrolled}, its site file says {said}; mend the one or the other"
            )
        there = list_nodes(self._grid)
        namesakes = [other for other, name in self._names.items() if name == said and other != node]
        if any(other in there or not enrolled for other in namesakes):
            raise RejectedError("SAME_NAME", f"another node is {said}; each site needs a name of its own")
        for other in namesakes:  # the same hospital's, before it was enrolled with a new key
            del self._names[other]
        self._names[node] = said
