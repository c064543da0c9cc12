"""What a study says of the weights its encoder starts from."""

from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from prostafed.common.errors import nearest
from prostafed.common.models import ENCODERS, list_weights
from prostafed.common.shell.configuration import Section
from prostafed.common.study.model import Model


class Initial(Section):
    """Where the encoder of the first stage starts."""

    renamed: ClassVar = {"encoder": "weights"}
    weights: str = Field(
        "random",
        description="'random', drawn from the seed; 'checkpoint', the encoder of a model.safetensors; "
        + "; ".join(f"'{name}', {weights.description}" for name, weights in list_weights().items())
        + ". The file of all but the first is named on the command line",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="the SHA-256 of that file, in hexadecimal; needed unless weights is 'random'",
    )
    allow_other_split: bool = Field(
        False,
        description="start from a checkpoint although its study split the patients in another way, or does not say "
        "how: test patients may have been trained on, and the report says so",
    )

    @field_validator("weights")
    @classmethod
    def _known_weights(cls, name: str) -> str:
        valid = ("random", "checkpoint", *list_weights())
        if name not in valid:
            raise ValueError(f"unknown weights '{name}'{nearest(name, valid)}")
        return name

    @model_validator(mode="after")
    def _pinned(self) -> "Initial":
        if self.weights == "random" and self.sha256 is not None:
            raise ValueError(
                "sha256 is for weights that come from a file: set weights to 'checkpoint' or "
                f"{' or '.join(repr(name) for name in list_weights())}, or leave sha256 out."
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
    weights = list_weights().get(initial.weights)
    if weights and initial.weights not in ENCODERS[model.encoder].weights:
        takers = " or ".join(f"'{name}'" for name, entry in ENCODERS.items() if initial.weights in entry.weights)
        raise ValueError(
            f"initial.weights '{initial.weights}' holds {weights.description}: set model.encoder to {takers}, found "
            f"'{model.encoder}'."
        )
