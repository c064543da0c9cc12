"""The stages of a study: self-supervised pretraining, supervised fine-tuning."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from prostafed.common.configuration import Section, parse
from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.settings import Settings
from prostafed.common.ssl import METHODS
from prostafed.common.tasks import TASKS

Group = Literal["encoder", "projection"]  # what may travel; heads and decoders never do


class Stage(Section):
    """What pretraining and fine-tuning have in common."""

    rounds: int = Field(ge=1, description="exchanges with the server")
    epochs: int = Field(1, ge=1, description="passes over a site's cases per round")
    batch_size: int = Field(8, ge=1, description="cases per optimiser step")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW, cosine-decayed to a tenth over the stage's rounds")
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW")
    aggregate: str = Field("fedavg", description="how the server combines the sites")


class Pretrain(Stage):
    """A self-supervised stage."""

    kind: Literal["pretrain"] = Field(description="self-supervised, no labels needed")
    method: str = Field("conditional", description=f"one of {', '.join(METHODS)}")
    parameters: Mapping[str, Any] = Field(default={}, description="of the method; see its table", validate_default=True)
    share: tuple[Group, ...] = Field(
        default=(), description="tensor groups that travel; by default those the method declares"
    )

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"unknown method '{name}'{nearest(name, METHODS)}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: dict[str, Any]) -> dict[str, Any]:
        entry = METHODS.get(values.get("method", "conditional"))
        if entry is None or not isinstance(values.get("parameters", {}), Mapping):
            return values
        try:
            parameters = parse(values.get("parameters", {}), entry.parameters, "parameters")
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return {**values, "parameters": asdict(parameters), "share": tuple(values.get("share", entry.shared))}

    @model_validator(mode="after")
    def _shareable(self) -> "Pretrain":
        shared = METHODS[self.method].shared
        if "encoder" not in self.share or not set(self.share) <= set(shared):
            raise ValueError(
                f"share must hold encoder and, for {self.method}, be among {list(shared)}; found {list(self.share)}."
            )
        return self

    def method_parameters(self) -> Settings:
        """Return `parameters` as the class its method declares."""
        return METHODS[self.method].parameters(**self.parameters)


class Finetune(Stage):
    """A supervised stage."""

    kind: Literal["finetune"] = Field(description="supervised, needs the task's labels")
    task: str = Field("lesion", description=f"one of {', '.join(TASKS)}")
    share: tuple[Literal["encoder"]] = Field(("encoder",), description="tensor groups that travel; heads never do")
    evaluate_every: int = Field(1, ge=1, description="rounds between evaluations on the validation patients")
    mode: Literal["full", "probe", "gradual"] = Field(
        "full",
        description="what is trained: everything; the heads alone, on a frozen encoder that travels unchanged, so that "
        "no site learns of another; or the heads alone for frozen_rounds, then everything",
    )
    frozen_rounds: int = Field(0, ge=0, description='rounds with a frozen encoder, mode = "gradual" only')
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from each stage of the encoder to the one before it"
    )
    labels: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of a site's labelled training patients that is used; a smaller one is part of a larger one",
    )

    @field_validator("task")
    @classmethod
    def _known_task(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(f"unknown task '{name}'{nearest(name, TASKS)}")
        return name

    @model_validator(mode="after")
    def _thaws(self) -> "Finetune":
        if self.mode == "gradual" and not 1 <= self.frozen_rounds < self.rounds:
            raise ValueError(
                f"mode 'gradual' needs frozen_rounds from 1 to {self.rounds - 1}, below the stage's rounds, found "
                f"{self.frozen_rounds}."
            )
        if self.mode != "gradual" and self.frozen_rounds:
            raise ValueError(f"frozen_rounds is for mode 'gradual'; with '{self.mode}' leave it out.")
        if self.mode == "probe" and self.layer_decay < 1:
            raise ValueError("layer_decay is for an encoder that is trained; with mode 'probe' leave it out.")
        return self

    def freezes_encoder(self, round_number: int) -> bool:
        """Return whether the encoder stays as it is in a round (1-based)."""
        return self.mode == "probe" or round_number <= self.frozen_rounds
