"""The study file: one TOML file says what is learnt, how and in how many rounds; its hash is what everyone
refers to.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from prostafed.common.configuration import Section, parse, read_toml
from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.settings import Settings
from prostafed.common.ssl import METHODS
from prostafed.common.tasks import TASKS

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")  # of a run of a study; also the name of folders
Sequence = Literal["t2w", "adc", "hbv"]
Triple = tuple[float, float, float]
Group = Literal["encoder", "projection"]  # what may travel; heads and decoders never do


class Data(Section):
    """The grid every case is resampled to, and how patients are split."""

    sequences: Annotated[tuple[Sequence, ...], Field(min_length=1)] = Field(
        ("t2w", "adc", "hbv"), description="channels, in order"
    )
    allow_missing: tuple[Literal["adc", "hbv"], ...] = Field(
        (),
        description="sequences a case may lack; every site then also trains without them now and then, and the encoder "
        "is told which are there",
    )
    spacing_mm: Triple = Field((3.0, 0.5, 0.5), description="voxel spacing (z, y, x)")
    size: tuple[int, int, int] = Field((20, 256, 256), description="voxels (z, y, x)")
    validation_fraction: float = Field(0.1, ge=0, lt=1, description="patients followed during fine-tuning")
    test_fraction: float = Field(0.25, gt=0, lt=1, description="patients kept for the last evaluation")

    @field_validator("spacing_mm", "size")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if min(values) <= 0:
            raise ValueError(f"every value must be above 0, found {list(values)}.")
        return values

    @field_validator("sequences", "allow_missing")
    @classmethod
    def _once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"every sequence may stand once, found {list(values)}.")
        return values

    @model_validator(mode="after")
    def _something_seen(self) -> "Data":
        allowed = set(self.allow_missing)
        if not allowed <= set(self.sequences) or allowed == set(self.sequences):
            raise ValueError(
                f"allow_missing must leave out at least one of the sequences {list(self.sequences)} and name no other, "
                f"found {list(self.allow_missing)}."
            )
        return self

    @model_validator(mode="after")
    def _something_left(self) -> "Data":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                "validation_fraction + test_fraction must stay below 1, so that patients are left to learn from."
            )
        return self


class Model(Section):
    """The network all sites share."""

    encoder: Literal["resenc"] = Field("resenc", description="3D residual encoder with anisotropic strides")
    width: int = Field(32, ge=2, description="channels of the first stage; doubled at each stage, at most 320")
    stages: int = Field(5, ge=2, le=7, description="resolutions of the encoder")
    norm: Literal["instance", "group"] = Field("instance", description="normalisation layer")


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


class Round(Section):
    """When a round counts."""

    participants: Literal["all"] = Field("all", description="which sites are asked")
    quorum: int = Field(1, ge=1, description="replies below which a round is not aggregated and the run stops")
    deadline_s: float = Field(3600.0, gt=0, description="seconds after which a site that has not answered is left out")


class Arms(Section):
    """Baselines beside the federation; simulations only, since they need the cases in one place."""

    compare: tuple[Literal["local", "pooled"], ...] = Field((), description="arms run beside the federated one")


class Study(Section):
    """A study, complete: defaults filled in."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="short name: lower case, digits, hyphens")
    seed: int = Field(0, ge=0, description="everything random derives from it")
    data: Data = Field(Data(), description="grid and splits")
    model: Model = Field(Model(), description="network")
    stage: Annotated[tuple[Annotated[Pretrain | Finetune, Field(discriminator="kind")], ...], Field(min_length=1)] = (
        Field(description="stages, in order")
    )
    round: Round = Field(Round(), description="quorum and deadline")
    arms: Arms = Field(Arms(), description="baselines of a simulation")

    def canonical(self) -> str:
        """Return the study as JSON with sorted keys, defaults included: equal studies give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """Return the SHA-256 of the canonical form, in hexadecimal; 12 characters are enough to show."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def read_study(path: Path) -> Study:
    """Read a study file; raises ConfigurationError that names the key and the nearest valid one."""
    return read_toml(path, Study)


def parse_study(canonical: str) -> Study:
    """Return the study whose canonical form is `canonical`."""
    return parse(json.loads(canonical), Study, "study")
