"""What a network of a site starts from: what the server sent, and over it what the site kept of its own."""

import copy
from dataclasses import dataclass

from torch import nn

from prostafed.client.gate.allowance import allow
from prostafed.client.rounds.job import Job
from prostafed.client.rounds.memory import Memory, recall, stage_folder
from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, Rule
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.messages import MOST_ROUNDS
from prostafed.common.ssl.targets import follow
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors, read_tensors, select_groups, write_tensors


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


def begin_round(job: Job) -> Start:
    """Return what the round of a job starts from.

    A site that was not in this stage yet starts from its own encoder, or the parts of it, that it kept to itself in the
    stage before, whether they travel now or not; so a stage with share = [] initialises the next one at each site.
    """
    network, shared, extra = _receive(job)
    memory = recall(job.folder, job.request.round - 1, job.request.study_hash)
    kept = memory or Memory()
    tensors = read_tensors(network)
    given = RoundInput({name: tensors[name] for name in shared}, extra, kept.rule)
    rule = build_rule(job.stage.aggregate, job.stage.aggregator_parameters())
    own = kept.tensors if memory else _own_encoder(job)
    _fill(network, {**rule.begin(given), **own})
    if memory is None:
        follow(network, job.objective.targets, momentum=0.0)
    tensors = read_tensors(network)
    personal = None
    if rule.personal is not None:
        personal = copy.deepcopy(network)
        _fill(personal, kept.personal)
    return Start(network, shared, rule, given, {name: tensors[name] for name in shared}, personal, kept)


def load_network(job: Job, memory_round: int) -> nn.ModuleDict:
    """Return the network that predicts: what was sent, with what the site kept up to `memory_round`; under a rule with
    a personal network that one.

    Targets that a site has not kept start equal to what they follow.
    """
    network, shared, _ = _receive(job)
    kept = recall(job.folder, memory_round, job.request.study_hash)
    if kept:
        _fill(network, kept.personal or kept.tensors)
    else:
        own = _own_encoder(job)
        _fill(network, {name: array for name, array in own.items() if name not in shared})
        follow(network, job.objective.targets, momentum=0.0)
    return network


def _receive(job: Job) -> tuple[nn.ModuleDict, tuple[str, ...], Tensors]:
    """Return the stage's network with what was sent, the names of what travels, and what was sent beside it."""
    network = build_stage_network(job.workplace.study, job.request.stage)
    sent, prefix = job.request.tensors, AGGREGATORS[job.stage.aggregate].sends
    extra = {name: array for name, array in sent.items() if prefix and name.startswith(prefix)}
    allowed = allow(job.workplace.study.canonical(), job.request.stage).update
    for name, array in extra.items():
        if name not in allowed or (array.shape, array.dtype) != (allowed[name].shape, allowed[name].dtype):
            raise CheckpointError(
                f"The request brings {name}, {array.dtype} {array.shape}, which does not fit the study."
            )
    write_tensors(network, {name: array for name, array in sent.items() if name not in extra})
    return network, tuple(sorted(shared_names(network, job.stage))), extra


def _own_encoder(job: Job) -> Tensors:
    """Return what the site kept of the encoder in the stage before."""
    request = job.request
    before = stage_folder(job.workplace.site.memory, request.run, request.stage - 1)  # there is none of number 0
    kept = recall(before, MOST_ROUNDS, request.study_hash)
    return select_groups(kept.tensors, ("encoder",)) if kept else {}


def _fill(network: nn.ModuleDict, tensors: Tensors) -> None:
    """Load some of a network's tensors; raises CheckpointError where one does not fit."""
    write_tensors(network, {**read_tensors(network), **tensors})
