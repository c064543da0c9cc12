"""What a network of a site starts from: what the server sent, and over it what the site kept of its own."""

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from prostafed.client.gate.release import BESIDE
from prostafed.client.rounds.memory import Memory, recall, stage_folder
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, Rule
from prostafed.common.exchange.messages import Request
from prostafed.common.ssl import build_method
from prostafed.common.ssl.targets import follow
from prostafed.common.study import Pretrain
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors, read_tensors, select_groups, write_tensors

PREFIXES = tuple(BESIDE.values())  # of what a rule is sent beside the network's tensors


@dataclass(frozen=True)
class Start:
    """A round about to be trained."""

    network: nn.ModuleDict
    shared: tuple[str, ...]  # names of the tensors that travel, sorted
    rule: Rule
    given: RoundInput
    begun: Tensors  # the shared tensors as training finds them
    personal: nn.ModuleDict | None  # a network of the site's own, where the rule has one
    kept: Memory


def begin_round(workplace: Workplace, request: Request) -> Start:
    """Return what the round of `request` starts from.

    A site that was not in this stage yet starts from its own encoder, or the parts of it, that it kept to itself in the
    stage before, whether they travel now or not; so a stage with share = [] initialises the next one at each site.
    """
    network, shared = _receive(workplace, request)
    memory = recall(_folder(workplace, request), request.round - 1, request.study_hash)
    kept = memory or Memory()
    extra = {name: array for name, array in request.tensors.items() if name.startswith(PREFIXES)}
    tensors = read_tensors(network)
    given = RoundInput({name: tensors[name] for name in shared}, extra, kept.rule)
    stage = workplace.study.stage[request.stage - 1]
    rule = build_rule(stage.aggregate, stage.aggregator_parameters())
    own = kept.tensors if memory else _own_encoder(workplace, request)
    _fill(network, {**rule.begin(given), **own})
    if memory is None:
        _start_targets(workplace, request, network)
    tensors = read_tensors(network)
    personal = None
    if rule.personal is not None:
        personal = copy.deepcopy(network)
        _fill(personal, kept.personal)
    return Start(network, shared, rule, given, {name: tensors[name] for name in shared}, personal, kept)


def load_network(workplace: Workplace, request: Request, memory_round: int) -> nn.ModuleDict:
    """Return the network that predicts: what was sent, with what the site kept up to `memory_round`; under a rule with
    a personal network that one.

    Targets that a site has not kept start equal to what they follow.
    """
    network, shared = _receive(workplace, request)
    kept = recall(_folder(workplace, request), memory_round, request.study_hash)
    if kept:
        _fill(network, kept.personal or kept.tensors)
    else:
        own = _own_encoder(workplace, request)
        _fill(network, {name: array for name, array in own.items() if name not in shared})
        _start_targets(workplace, request, network)
    return network


def _receive(workplace: Workplace, request: Request) -> tuple[nn.ModuleDict, tuple[str, ...]]:
    """Return the stage's network with what was sent, and the names of what travels."""
    network = build_stage_network(workplace.study, request.stage)
    write_tensors(network, {name: array for name, array in request.tensors.items() if not name.startswith(PREFIXES)})
    return network, tuple(sorted(shared_names(network, workplace.study.stage[request.stage - 1])))


def _own_encoder(workplace: Workplace, request: Request) -> Tensors:
    """Return what the site kept of the encoder in the stage before."""
    if request.stage == 1:
        return {}
    folder = stage_folder(workplace.site.memory, request.run, request.stage - 1)
    kept = recall(folder, workplace.study.stage[request.stage - 2].rounds, request.study_hash)
    return select_groups(kept.tensors, ("encoder",)) if kept else {}


def _start_targets(workplace: Workplace, request: Request, network: nn.ModuleDict) -> None:
    stage = workplace.study.stage[request.stage - 1]
    if isinstance(stage, Pretrain):
        follow(network, build_method(stage.method, stage.method_parameters()).targets, momentum=0.0)


def _fill(network: nn.ModuleDict, tensors: Tensors) -> None:
    """Load some of a network's tensors; raises CheckpointError where one does not fit."""
    write_tensors(network, {**read_tensors(network), **tensors})


def _folder(workplace: Workplace, request: Request) -> Path:
    return stage_folder(workplace.site.memory, request.run, request.stage)
