"""The network of a study's stage, the same at the server and at every site."""

from torch import nn

from prostafed.common.models.network import build_network
from prostafed.common.ssl import build_method
from prostafed.common.study import Pretrain, Study
from prostafed.common.tasks import build_task


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
        stages=study.model.stages,
        norm=study.model.norm,
        groups=groups,
        seed=study.seed,
        stage=stage,
        tolerant=bool(study.data.allow_missing),
    )
