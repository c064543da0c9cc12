"""What a study says of the network all sites share."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from prostafed.common.errors import nearest
from prostafed.common.models import ENCODERS
from prostafed.common.shell.configuration import Section


class Model(Section):
    """The network all sites share."""

    renamed: ClassVar = {"stages": "resolutions"}
    encoder: str = Field(
        "resenc",
        description="3D, strides and kernels follow the grid's anisotropy; "
        + "; ".join(f"'{name}', {entry.description}" for name, entry in ENCODERS.items()),
    )
    width: int = Field(
        32,
        ge=2,
        description="channels of resenc's first stage; doubled at each stage, at most 320. mobilenet has its own",
    )
    resolutions: int = Field(5, ge=2, le=7, description="resolutions the encoder works at; mobilenet has at most 5")
    norm: Literal["instance", "group"] = Field("instance", description="normalisation layer")

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str) -> str:
        if name not in ENCODERS:
            raise ValueError(f"unknown encoder '{name}'{nearest(name, ENCODERS)}")
        return name

    @model_validator(mode="after")
    def _enough_resolutions(self) -> "Model":
        most = ENCODERS[self.encoder].most_stages
        if self.resolutions > most:
            raise ValueError(
                f"encoder '{self.encoder}' has {most} resolutions at most, found {self.resolutions}: lower resolutions."
            )
        return self
