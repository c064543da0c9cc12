"""The study file: one TOML file says what is learnt, how and in how many rounds; its hash is what everyone
refers to.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.shell.configuration import Section, parse, read_toml
from prostafed.common.study.data import Data
from prostafed.common.study.initial import Initial, check_initial
from prostafed.common.study.model import Model
from prostafed.common.study.privacy import Privacy, check_noise
from prostafed.common.study.rounds import ARMS, Arms, Round
from prostafed.common.study.stages import Finetune, Pretrain
from prostafed.common.study.sums import check_sums

__all__ = [
    "ARMS",
    "RUN_NAME",
    "Arms",
    "Data",
    "Finetune",
    "Initial",
    "Model",
    "Pretrain",
    "Privacy",
    "Round",
    "Study",
    "parse_study",
    "read_study",
    "rename_keys",
]

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")  # of a run of a study; also the name of folders


class Study(Section):
    """A study, complete: defaults filled in."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="short name: lower case, digits, hyphens")
    seed: int = Field(0, ge=0, description="everything random derives from it")
    data: Data = Field(Data(), description="grid and splits")
    model: Model = Field(Model(), description="network")
    initial: Initial = Field(Initial(), description="weights the encoder starts from")
    stage: Annotated[tuple[Annotated[Pretrain | Finetune, Field(discriminator="kind")], ...], Field(min_length=1)] = (
        Field(description="stages, in order")
    )
    round: Round = Field(Round(), description="quorum and deadline")
    privacy: Privacy = Field(Privacy(), description="noise, and masks on updates")
    arms: Arms = Field(Arms(), description="baselines of a simulation")

    @model_validator(mode="after")
    def _sums_suffice(self) -> "Study":
        if self.privacy.secure_aggregation and "compress" not in self.round.model_fields_set:
            # Set here, once the study is whole: a validator before it would have to read every section by itself.
            object.__setattr__(self, "round", self.round.model_copy(update={"compress": "fixed32"}))
        check_sums(self.privacy, self.round, {stage.aggregate for stage in self.stage})
        return self

    @model_validator(mode="after")
    def _aggregators_fit(self) -> "Study":
        most = self.round.most_replies()
        for stage in self.stage:
            if self.round.compress == "topk" and AGGREGATORS[stage.aggregate].whole:
                raise ValueError(
                    f"compress 'topk' leaves out parts of an update, {stage.aggregate} needs it whole: use 'float16'."
                )
            if most and stage.fewest_sites() > most:
                raise ValueError(
                    f"{stage.aggregate} needs {stage.fewest_sites()} replies, and a round takes {most} at most. Raise "
                    "participants or close_after in [round], or choose another aggregator."
                )
        return self

    @model_validator(mode="after")
    def _noise_fits(self) -> "Study":
        for number, stage in enumerate(self.stage, start=1):
            check_noise(self.privacy, stage, number)
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "Study":
        check_initial(self.initial, self.model)
        return self

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


def rename_keys(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study of the last release with its keys as they are called now."""
    now = {name: getattr(each.annotation, "renamed", {}) for name, each in Study.model_fields.items()}
    tables = {name: part for name, part in study.items() if now.get(name) and isinstance(part, dict)}
    return {**study, **{name: {now[name].get(key, key): part[key] for key in part} for name, part in tables.items()}}
