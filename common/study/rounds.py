"""What a study says of its rounds, and of the arms beside the federation."""

from typing import Literal

from pydantic import Field

from prostafed.common.configuration import Section


class Round(Section):
    """When a round counts."""

    participants: Literal["all"] = Field("all", description="which sites are asked")
    quorum: int = Field(1, ge=1, description="replies below which a round is not aggregated and the run stops")
    deadline_s: float = Field(3600.0, gt=0, description="seconds after which a site that has not answered is left out")


class Arms(Section):
    """Baselines beside the federation; simulations only, since they need the cases in one place."""

    compare: tuple[Literal["local", "pooled"], ...] = Field((), description="arms run beside the federated one")
