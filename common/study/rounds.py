"""What a study says of its rounds, and of the arms beside the federation."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from prostafed.common.shell.configuration import Section


class Round(Section):
    """When a round counts."""

    renamed: ClassVar = {"enough": "close_after"}
    participants: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all", description="which sites are asked: all, or so many of them, drawn anew for each round from the seed"
    )
    close_after: int = Field(
        0,
        ge=0,
        description="replies at which a round is closed without waiting for the others (k of n), and an evaluation "
        "other than a stage's last; 0 waits for all. Which sites are the first is not reproducible",
    )
    quorum: int = Field(
        1, ge=1, description="replies below which a round is not aggregated and an evaluation does not count"
    )
    deadline_s: float = Field(3600.0, gt=0, description="seconds after which a site that has not answered is left out")
    below_quorum: Literal["stop", "retry"] = Field(
        "stop", description="what follows a round or evaluation below the quorum: the run stops, or it is tried again"
    )
    retries: int = Field(
        3,
        ge=1,
        description='tries of one round or evaluation after the first, with below_quorum = "retry"; in any case, how '
        "often a stage's last evaluation asks the sites it lacks again",
    )
    norm_limit: float = Field(
        10.0,
        ge=0,
        description="an update is rejected whose norm exceeds so many times the median of those admitted in earlier "
        "rounds of the stage, once there are five; 0 takes any. Whole numbers (fixed16, fixed32) are held to a range "
        "at the site instead",
    )
    report_after: int = Field(3, ge=1, description="rejections of a site in a row that are reported to the coordinator")
    compress: Literal["none", "float16", "topk", "fixed16", "fixed32"] = Field(
        "none",
        description="how updates travel to the server: whole, as float16 differences, as the largest differences, with "
        "what was left out added to the next (Stich et al. 2018), or as whole numbers of 16 or 32 bits that are added "
        "up as they arrive; with secure_aggregation fixed32, unless fixed16 is chosen",
    )
    top_fraction: float = Field(0.05, gt=0, le=1, description='share of the differences sent, compress = "topk" only')

    @model_validator(mode="after")
    def _reachable(self) -> "Round":
        if 0 < (most := self.most_replies()) < self.quorum:
            raise ValueError(f"a quorum of {self.quorum} cannot be reached with {most} replies. Lower it.")
        return self

    def most_replies(self) -> int:
        """Return how many replies a round takes, 0 where there is no limit."""
        asked = self.participants if isinstance(self.participants, int) else 0
        return min((limit for limit in (asked, self.close_after) if limit), default=0)


ArmName = Literal["local", "pooled", "ensemble", "personal", "unseen"]
ARMS: tuple[ArmName, ...] = get_args(ArmName)


class Arms(Section):
    """Baselines beside the federation; simulations only, since they need the cases in one place."""

    compare: tuple[ArmName, ...] = Field(
        (),
        description="arms run beside the federated one: 'local', each site alone; 'pooled', all cases in one place; "
        "'ensemble', the mean of what the local models say (one-shot); 'personal', a model of its own per site, held "
        "to the federated one (Ditto); 'unseen', a federation without the hospital it is tested at",
    )
