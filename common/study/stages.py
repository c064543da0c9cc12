"""The stages of a study: self-supervised pretraining, supervised fine-tuning."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError
from prostafed.common.settings import Settings
from prostafed.common.shell.configuration import Section, one_of, parse
from prostafed.common.ssl import METHODS
from prostafed.common.tasks import TASKS

Part = Literal["norm", "stem"]


class Stage(Section):
    """What pretraining and fine-tuning have in common."""

    rounds: int = Field(ge=1, description="exchanges with the server")
    epochs: int = Field(1, ge=1, description="passes over a site's cases per round")
    batch_size: int = Field(8, ge=1, description="cases per optimiser step")
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="of the sites; sgd is plain, without momentum")
    learning_rate: float = Field(
        1e-3, gt=0, description="of the sites' optimiser, cosine-decayed to a tenth over the stage's rounds"
    )
    weight_decay: float = Field(1e-4, ge=0, description="of the sites' optimiser")
    keep_optimiser: bool = Field(
        False, description="whether a site's optimiser goes on from round to round; otherwise it starts anew"
    )
    aggregate: Annotated[str, one_of(AGGREGATORS, "aggregator")] = Field(
        "fedavg", description=f"how the sites are combined: one of {', '.join(AGGREGATORS)}"
    )
    aggregate_parameters: Mapping[str, Any] = Field(
        default={}, description="of the aggregator; see its table", validate_default=True
    )
    local: tuple[Part, ...] = Field(
        (),
        description="parts of the shared groups that stay at each site all the same: 'norm', every normalisation layer "
        "(FedBN), 'stem', the encoder's first resolution",
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_aggregator(cls, values: dict[str, Any]) -> dict[str, Any]:
        entry = AGGREGATORS.get(values.get("aggregate", "fedavg"))
        # What comes out of this is validated as Python values, strictly: arrays have to be tuples from here on.
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return values if entry is None else _resolved(values, "aggregate_parameters", entry.parameters)

    @model_validator(mode="after")
    def _aggregator_fits(self) -> "Stage":
        entry = AGGREGATORS[self.aggregate]
        if entry.plain_sgd and self.optimiser != "sgd":
            raise ValueError(
                f"aggregate '{self.aggregate}' is defined for plain SGD at the sites: set optimiser = 'sgd'."
            )
        return self

    def aggregator_parameters(self) -> Settings:
        """Return `aggregate_parameters` as the class the aggregator declares."""
        return AGGREGATORS[self.aggregate].parameters(**self.aggregate_parameters)

    def fewest_sites(self) -> int:
        """Return the replies without which the aggregator cannot work."""
        return AGGREGATORS[self.aggregate].fewest_sites(self.aggregator_parameters())


def _resolved(values: dict[str, Any], key: str, parameters: type[Settings]) -> dict[str, Any]:
    """Return `values` with the table `key` complete, defaults filled in; raises ValueError for a mistake in it."""
    if not isinstance(values.get(key, {}), Mapping):
        return values
    try:
        return {**values, key: asdict(parse(values.get(key, {}), parameters, key))}
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _require_groups(aggregate: str, share: tuple[str, ...]) -> None:
    """Raise ValueError where the aggregator combines a group of tensors that does not travel."""
    if lacking := set(AGGREGATORS[aggregate].groups) - set(share):
        methods = [name for name, entry in METHODS.items() if lacking <= {*entry.shared, *entry.predictor}]
        raise ValueError(
            f"aggregate '{aggregate}' needs a {', '.join(sorted(lacking))} that travels: a pretraining method that has "
            f"one ({', '.join(methods)}), and {', '.join(sorted(lacking))} in share."
        )


class Pretrain(Stage):
    """A self-supervised stage."""

    kind: Literal["pretrain"] = Field(description="self-supervised, no labels needed")
    method: Annotated[str, one_of(METHODS, "method")] = Field("conditional", description=f"one of {', '.join(METHODS)}")
    parameters: Mapping[str, Any] = Field(default={}, description="of the method; see its table", validate_default=True)
    share: tuple[str, ...] = Field(
        default=(),
        description="tensor groups that travel; by default those the method declares. With [] each site pretrains by "
        "itself, and the next stage starts at each site from its own encoder",
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: dict[str, Any]) -> dict[str, Any]:
        entry = METHODS.get(values.get("method", "conditional"))
        if entry is None:
            return values
        rule = AGGREGATORS.get(values.get("aggregate", "fedavg"))
        wanted = tuple(group for group in entry.predictor if rule and group in rule.groups)
        share = values.get("share", entry.shared + wanted)
        return _resolved({**values, "share": share}, "parameters", entry.parameters)

    @model_validator(mode="after")
    def _shareable(self) -> "Pretrain":
        entry, found = METHODS[self.method], set(self.share)
        if found and ("encoder" not in found or not found <= {*entry.shared, *entry.predictor}):
            may = list(entry.shared + entry.predictor)
            raise ValueError(
                f"share must be [] or hold encoder and, for {self.method}, be among {may}; found {list(self.share)}."
            )
        _require_groups(self.aggregate, self.share)
        return self

    def method_parameters(self) -> Settings:
        """Return `parameters` as the class its method declares."""
        return METHODS[self.method].parameters(**self.parameters)


class Finetune(Stage):
    """A supervised stage."""

    kind: Literal["finetune"] = Field(description="supervised, needs the task's labels")
    task: Annotated[str, one_of(TASKS, "task")] = Field("lesion", description=f"one of {', '.join(TASKS)}")
    share: tuple[Literal["encoder", "heads"], ...] = Field(
        ("encoder",),
        description="what travels: the encoder; 'heads' too, decoder included, where the sites are to own one whole "
        "model; with [] each site learns by itself",
    )
    evaluate_every: int = Field(1, ge=1, description="rounds between evaluations on the validation patients")
    mode: Literal["full", "probe", "gradual", "alternate"] = Field(
        "full",
        description="what is trained: everything; the heads alone, on a frozen encoder that travels unchanged, so that "
        "no site learns of another; the heads alone for frozen_rounds, then everything; or in each round the heads "
        "alone for head_epochs, then the encoder alone (FedRep)",
    )
    frozen_rounds: int = Field(0, ge=0, description='rounds with a frozen encoder, mode = "gradual" only')
    head_epochs: int = Field(0, ge=0, description='epochs of the heads in each round, mode = "alternate" only')
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on the learning rate from each resolution of the encoder to the finer one before it",
    )
    labels: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of a site's labelled training patients that is used; a smaller one is part of a larger one",
    )

    @model_validator(mode="after")
    def _thaws(self) -> "Finetune":
        if self.mode == "gradual" and not 1 <= self.frozen_rounds < self.rounds:
            raise ValueError(
                f"mode 'gradual' needs frozen_rounds from 1 to {self.rounds - 1}, below the stage's rounds, found "
                f"{self.frozen_rounds}."
            )
        if self.mode != "gradual" and self.frozen_rounds:
            raise ValueError(f"frozen_rounds is for mode 'gradual'; with '{self.mode}' leave it out.")
        if (self.mode == "alternate") != (self.head_epochs > 0):
            raise ValueError(
                f"head_epochs, at least 1, goes with mode 'alternate' and no other; found {self.head_epochs}."
            )
        _require_groups(self.aggregate, self.share)
        if self.share and "encoder" not in self.share:
            raise ValueError(f"share must be [] or hold encoder, found {list(self.share)}.")
        if self.mode == "probe" and self.layer_decay < 1:
            raise ValueError("layer_decay is for an encoder that is trained; with mode 'probe' leave it out.")
        return self

    def freezes_encoder(self, round_number: int) -> bool:
        """Return whether the encoder stays as it is in a round (1-based)."""
        return self.mode == "probe" or round_number <= self.frozen_rounds
