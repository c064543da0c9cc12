"""What a study says of the weights its encoder starts from."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from prostafed.common.shell.configuration import Section
from prostafed.common.study.model import Model


class Initial(Section):
    """Where the encoder of the first stage starts."""

    renamed: ClassVar = {"encoder": "weights"}
    weights: Literal["random", "imagenet", "checkpoint"] = Field(
        "random",
        description="'random', weights drawn from the seed; 'imagenet', a MobileNetV2 trained on photographs; "
        "'checkpoint', the encoder of a model.safetensors. The file of the last two is named on the command line",
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="of that file, in hexadecimal; needed unless weights is 'random'"
    )
    allow_other_split: bool = Field(
        False,
        description="start from a checkpoint although its study split the patients in another way, or does not say "
        "how: test patients may have been trained on, and the report says so",
    )

    @model_validator(mode="after")
    def _pinned(self) -> "Initial":
        if self.weights == "random" and self.sha256 is not None:
            raise ValueError(
                "sha256 is for weights that come from a file: set weights to 'imagenet' or 'checkpoint', or leave "
                "sha256 out."
            )
        if self.weights != "random" and self.sha256 is None:
            raise ValueError(
                f"weights '{self.weights}' needs sha256, the file's SHA-256 in hexadecimal: `sha256sum FILE` prints it."
            )
        if self.allow_other_split and self.weights != "checkpoint":
            raise ValueError(f"allow_other_split is for weights 'checkpoint'; with '{self.weights}' leave it out.")
        return self


def check_initial(initial: Initial, model: Model) -> None:
    """Raise ValueError where the weights named cannot fit the encoder named."""
    if initial.weights == "imagenet" and model.encoder != "mobilenet":
        raise ValueError(
            "initial.weights 'imagenet' holds the weights of a MobileNetV2: set model.encoder to 'mobilenet', "
            f"found '{model.encoder}'."
        )
