"""Sites that train by a few random numbers and do all the rest as hospitals do: keys, shares, masks, lists."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prostafed.client.gate.masks import Desk, answer_masks, check_sum, make_summand
from prostafed.client.site.site_file import Site
from prostafed.common.errors import ProstafedError
from prostafed.common.exchange.kinds import ABOUT_MASKS
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.seeding import derive_seed
from prostafed.common.study import Study, parse_study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors, count_bytes, hash_tensors
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.exchange.exchange import NOT_NEEDED, Exchange, OnReply


def make_study(masked: bool = True, rule: str = "fixed32", more: str = "", aggregate: str = "fedavg") -> Study:
    privacy = "true" if masked else "false"
    return parse_study(
        f"""{{"name": "tiny", "seed": 3, "data": {{"size": [4, 8, 8], "spacing_mm": [3.0, 2.0, 2.0]}},
        "model": {{"width": 2, "resolutions": 2}}, "round": {{"quorum": 2, "compress": "{rule}" {more}}},
        "privacy": {{"secure_aggregation": {privacy}}},
        "stage": [{{"kind": "pretrain", "rounds": 2, "aggregate": "{aggregate}"}}]}}"""
    )


def train(request: Request, site: str, shared: Sequence[str]) -> Tensors:
    """Return what a site trains: the same for the same weights."""
    rng = np.random.default_rng(derive_seed(0, site, request.round))
    return {
        name: (request.tensors[name] + rng.normal(size=request.tensors[name].shape) * 0.01).astype(
            request.tensors[name].dtype
        )
        for name in shared
    }


@dataclass
class MaskedSites:
    """`fails` says who does not answer what: (action, site) -> code. `tamper` may change what a site says. `watch` is
    called with each reply that the server holds.
    """

    folder: Path
    study: Study
    names: list[str]
    fails: dict[tuple[str, str], str] = field(default_factory=dict)
    tamper: Callable[[str, str, Reply], Reply] = lambda action, site, reply: reply
    watch: Callable[[str, str], None] = lambda action, site: None
    peers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # site -> whom it knows; else anybody
    cohorts: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    enrolled: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)

    def present(self) -> list[str]:
        return sorted(self.names)

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
        self.asked.append((request.action, request.round, tuple(sites)))
        found, most = Exchange(), close_after or len(sites)
        for site in sites:
            code, text = self.fails.get((request.action, site), ""), "it failed"
            if len(found.replies) >= most:
                code = NOT_NEEDED
            if not code:
                try:
                    reply = self.tamper(request.action, site, self.answer(request, site))
                    self.watch(request.action, site)
                    on_reply(site, reply)
                    found.replies.append(site)
                    found.bytes_up += count_bytes(reply.tensors) + len(reply.masks)
                except (ProstafedError, RejectedError) as error:
                    code, text = error.code, str(error)
            if code:
                found.rejections.append({"site": site, "code": code, "text": text})
            found.bytes_down += count_bytes(request.tensors) + len(request.masks)
        return found

    def answer(self, request: Request, site: str) -> Reply:
        desk = self.open_desk(request, site)
        if request.action in ABOUT_MASKS:
            return answer_masks(desk)
        digest = hash_tensors(request.tensors)
        check_sum(desk, digest)
        stage = self.study.stage[request.stage - 1]
        shared = sorted(shared_names(build_stage_network(self.study, request.stage), stage))
        metrics = {"train/loss": 0.5, "train/steps": 1.0}
        tensors = train(request, site, shared)
        reply = Reply(site, request.study_hash, request.stage, request.round, desk.cases, tensors, metrics)
        return make_summand(desk, reply, digest)

    def open_desk(self, request: Request, site: str) -> Desk:
        folder = self.folder / "sites" / site
        place = Site(name=site, memory=folder / "memory")
        cases = 20 + 7 * self.names.index(site)
        stage = folder / "memory" / request.run / f"stage-{request.stage}"
        return Desk(stage, place, self.study, replace(request), cases, self.peers.get(site))
