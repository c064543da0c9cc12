"""The network of a study's stage, the same at the server and at every site."""

from torch import nn

from prostafed.common.models.encoder import Encoder
from prostafed.common.models.network import build_network
from prostafed.common.ssl import build_method
from prostafed.common.study import Finetune, Pretrain, Study
from prostafed.common.study.stages import Part
from prostafed.common.tasks import build_task
from prostafed.common.tensors import group_of

NORMS = (nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm)


def build_stage_network(study: Study, stage: int) -> nn.ModuleDict:
    """Return the initial network of `stage` (from 1): the encoder and the groups its method or task needs."""
    section = study.stage[stage - 1]
    if isinstance(section, Pretrain):
        groups = build_method(section.method, section.method_parameters()).heads
    else:
        groups = build_task(section.task).heads
    return build_network(
        sequences=len(study.data.sequences),
        spacing_mm=study.data.spacing_mm,
        size=study.data.size,
        width=study.model.width,
        stages=study.model.resolutions,
        norm=study.model.norm,
        groups=groups,
        seed=study.seed,
        stage=stage,
        tolerant=bool(study.data.allow_missing),
        encoder=study.model.encoder,
    )


def held_groups(network: nn.ModuleDict, stage: Pretrain | Finetune) -> tuple[str, ...]:
    """Return the groups the server holds in `stage` and sends: those that are shared, the encoder in any case."""
    if "heads" in stage.share:
        return tuple(network)
    return tuple(stage.share) or ("encoder",)


def shared_names(network: nn.ModuleDict, stage: Pretrain | Finetune) -> frozenset[str]:
    """Return the names of the tensors that travel in `stage`: those of its groups, less the parts that stay local.

    Parts are told by the type and place of a module, never by its name.
    """
    groups = held_groups(network, stage) if stage.share else ()
    names = {name for name in network.state_dict() if group_of(name) in groups}
    for part in stage.local:
        names -= {name for prefix in _find_part(network, part) for name in names if name.startswith(prefix)}
    return frozenset(names)


def _find_part(network: nn.ModuleDict, part: Part) -> list[str]:
    """Return the prefixes of the tensors that belong to a part."""
    encoder = network["encoder"]
    assert isinstance(encoder, Encoder)
    stem = encoder.stages[0]
    return [
        f"{name}."
        for name, module in network.named_modules()
        if (isinstance(module, NORMS) if part == "norm" else module is stem)
    ]
