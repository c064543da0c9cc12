"""Who is still to answer an exchange, and who has to be asked again: a site that was killed, restarted or cut off while
it worked goes on from what it keeps on its own disk, once somebody asks it to.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from flwr.serverapp import Grid

from prostafed.common.exchange.messages import Request
from prostafed.common.exchange.wire import pack_request
from prostafed.common.shell.progress import Said, tell

NEVER: Mapping[str, float] = {}
SOON_S, SELDOM_S = 5.0, 60.0
# Who is asked again in the same exchange: code of the failure -> seconds from one question to the next, at least.
AGAIN_S: Mapping[str, float] = {
    **dict.fromkeys(("NODE_LOST", "NODE_UNAVAILABLE", "SITE_CRASHED", "CRASHED"), SOON_S),
    **dict.fromkeys(("RESTING", "HELD", "HALTED"), SELDOM_S),
}
LOOK_S = 1.0  # so often it is looked up who is connected, and since when


@dataclass
class Asked:
    """A site that was asked and has not answered."""

    at: float
    since: str  # since when it had been connected then
    failure: tuple[str, str] | None = None  # code and text of what came last instead of an answer


class Waiting:
    """The sites that have not answered a request yet, and its messages to them: more than one to a site that may have
    lost the first. Whichever answer comes first counts; the site's memory makes all of them the same.
    """

    def __init__(
        self, grid: Grid, nodes: Mapping[str, int], request: Request, deadline: float, again: Mapping[str, float]
    ) -> None:
        """Ask all of `nodes`. `again`: whose failure is not the end, as AGAIN_S."""
        self._grid, self.nodes, self.request, self._deadline, self._again_s = grid, nodes, request, deadline, again
        self.sites: dict[str, Asked] = {}
        self.messages: dict[str, str] = {}  # message -> site
        self.rejections: list[dict[str, str]] = []  # of sites that are not waited for any longer
        self.asked = 0
        self._look_at = time.monotonic() + LOOK_S
        connected = self._list_connected() if again else {}
        self._ask(list(nodes), connected)

    def fail(self, site: str, code: str, text: str) -> None:
        """Note what came of a question to a site instead of an answer; whether it is asked again is the code's to
        say.
        """
        if code in self._again_s:
            if self._again_s[code] >= SELDOM_S and self.sites[site].failure != (code, text):
                tell(Said(site, text))  # people or hours decide: whoever watches the run may want to ask them
            self.sites[site].failure = code, text
        else:
            self.reject(site, code, text)

    def reject(self, site: str, code: str, text: str) -> None:
        """Wait for a site no longer."""
        del self.sites[site]
        self.rejections.append({"site": site, "code": code, "text": text})

    def ask_again(self) -> None:
        """Ask those who failed and are connected, and those who were connected anew since they were asked: what worked
        there may have been lost without a word.
        """
        now = time.monotonic()
        if not self._again_s or not self._look_at <= now < self._deadline:
            return
        self._look_at = now + LOOK_S
        connected = self._list_connected()
        for site, asked in list(self.sites.items()):
            since, at_work = connected.get(self.nodes[site]), site in self.messages.values()
            if since is None or (at_work and since == asked.since):
                continue
            if now >= asked.at + (self._again_s[asked.failure[0]] if asked.failure and not at_work else SOON_S):
                self._ask([site], connected)

    def _ask(self, sites: Sequence[str], connected: Mapping[int, str]) -> None:
        """Ask `sites` all at once: their tensors are packed and hashed once."""
        now, nodes = time.monotonic(), [self.nodes[site] for site in sites]
        for site, node in zip(sites, nodes, strict=True):
            failure = self.sites[site].failure if site in self.sites else None
            self.sites[site] = Asked(now, connected.get(node, ""), failure)
        pushed = list(self._grid.push_messages(pack_request(self.request, nodes, max(0.0, self._deadline - now))))
        for site, message in zip_longest(sites, pushed[: len(sites)]):
            if message:
                self.messages[message] = site
                self.asked += 1
            else:
                self.fail(site, "NODE_UNAVAILABLE", "the coordinator's link knows no such site any more")

    def _list_connected(self) -> dict[int, str]:
        return {node.node_id: node.last_activated_at for node in self._grid.get_nodes()}
