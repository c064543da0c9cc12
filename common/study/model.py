"""What a study says of the network all sites share."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from prostafed.common.models import ENCODERS, EncoderEntry
from prostafed.common.shell.configuration import Section, one_of


def _name(chosen: Callable[[EncoderEntry], bool]) -> str:
    return ", ".join(name for name, entry in ENCODERS.items() if chosen(entry))


class Model(Section):
    """The network all sites share."""

    renamed: ClassVar = {"stages": "resolutions"}
    encoder: Annotated[str, one_of(ENCODERS, "encoder")] = Field(
        "resenc",
        description="3D, strides and kernels follow the grid's anisotropy; "
        + "; ".join(f"'{name}', {entry.description}" for name, entry in ENCODERS.items()),
    )
    width: int = Field(
        32,
        ge=2,
        description=f"channels of the first resolution of {_name(lambda entry: entry.uses_width)}; doubled at each, at "
        f"most 320. {_name(lambda entry: not entry.uses_width)} has its own",
    )
    resolutions: int = Field(
        5,
        ge=2,
        le=max(entry.most_resolutions for entry in ENCODERS.values()),
        description="resolutions the encoder works at; at most "
        + ", ".join(f"{entry.most_resolutions} of {name}" for name, entry in ENCODERS.items()),
    )
    norm: Literal["instance", "group"] = Field("instance", description="normalisation layer")

    @model_validator(mode="after")
    def _enough_resolutions(self) -> "Model":
        most = ENCODERS[self.encoder].most_resolutions
        if self.resolutions > most:
            raise ValueError(
                f"encoder '{self.encoder}' has {most} resolutions at most, found {self.resolutions}: lower resolutions."
            )
        return self
