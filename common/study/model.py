"""What a study says of the network all sites share."""

from typing import Literal

from pydantic import Field

from prostafed.common.configuration import Section


class Model(Section):
    """The network all sites share."""

    encoder: Literal["resenc"] = Field("resenc", description="3D residual encoder with anisotropic strides")
    width: int = Field(32, ge=2, description="channels of the first stage; doubled at each stage, at most 320")
    stages: int = Field(5, ge=2, le=7, description="resolutions of the encoder")
    norm: Literal["instance", "group"] = Field("instance", description="normalisation layer")
