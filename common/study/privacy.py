"""What a study says of privacy: whose data noise protects and how well; whether the server sees single updates."""

from typing import Literal

from pydantic import Field, model_validator

from prostafed.common.shell.configuration import Section


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
