"""What a study says of privacy: whose data noise protects and how well; whether the server sees single updates."""

from typing import Literal

from pydantic import Field, model_validator

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.shell.configuration import Section
from prostafed.common.ssl import METHODS
from prostafed.common.study.stages import Finetune, Pretrain


class Privacy(Section):
    """How little the weights that leave a site may tell."""

    unit: Literal["none", "patient", "site"] = Field(
        "none",
        description="whose data noise hides: none's; a patient's, with all studies of the patient (DP-SGD, for losses "
        "that are sums over cases); or all that a site has, by noise on its update, for any loss",
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        description="the most that all stages together may cost a patient, or a site; each site solves for its noise "
        "before the run. Give this or noise",
    )
    noise: float | None = Field(
        None, gt=0, description="standard deviation of the noise, in units of clip; epsilon then follows from it"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="probability that epsilon does not hold; far below 1 / patients")
    clip: float = Field(
        1.0, gt=0, description="largest norm of what one patient adds to a step's gradient, or of a site's update"
    )
    secure_aggregation: bool = Field(
        False, description="whether sites mask their updates, so that the server learns their sum alone"
    )
    threshold: int = Field(
        0,
        ge=0,
        description="sites whose help takes masks off; 0: more than half of those that mask. Fewer sites that stay "
        "give no sum",
    )

    @model_validator(mode="after")
    def _one_measure(self) -> "Privacy":
        given = [name for name in ("epsilon", "noise") if getattr(self, name) is not None]
        if self.unit == "none" and given:
            raise ValueError(f"{given[0]} needs a unit: 'patient' or 'site'.")
        if self.unit != "none" and len(given) != 1:
            raise ValueError(f"unit '{self.unit}' needs epsilon or noise, and one of them only; found {len(given)}.")
        if self.threshold and not self.secure_aggregation:
            raise ValueError("threshold is for secure_aggregation; without it leave it out.")
        return self


def check_noise(privacy: Privacy, stage: Pretrain | Finetune, number: int) -> None:
    """Raise ValueError where noise of the unit that is asked for cannot be added in a stage."""
    learned = isinstance(stage, Pretrain) and stage.parameters.get("learned_transforms")
    if learned and privacy.unit == "patient":
        raise ValueError(
            f"learned_transforms in stage {number} learns from the labelled cases of a batch together, so what one "
            "patient adds has no bound. Leave it out, or use unit = 'site' in [privacy]."
        )
    if privacy.unit == "patient" and isinstance(stage, Pretrain) and not METHODS[stage.method].decomposes:
        fitting = " or ".join(f"'{name}'" for name, entry in METHODS.items() if entry.decomposes)
        raise ValueError(
            f"Noise for a patient needs a loss that is a sum over cases. That of '{stage.method}' in stage {number} "
            "compares the cases of a batch with each other, so what one patient adds to it has no bound. Use the "
            f"method {fitting}, or fine-tuning alone, or unit = 'site' in [privacy]."
        )
    if privacy.unit == "site" and (beside := AGGREGATORS[stage.aggregate].sends):
        raise ValueError(
            f"Noise for a site is added to its update, and '{stage.aggregate}' in stage {number} sends tensors beside "
            f"it ({beside}*). Use another aggregator, or unit = 'patient' in [privacy]."
        )
