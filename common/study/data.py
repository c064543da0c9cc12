"""What a study says of the images: grid, sequences, splits."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from prostafed.common.shell.configuration import Section

Sequence = Literal["t2w", "adc", "hbv"]
Triple = tuple[float, float, float]


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
    split_seed: int = Field(
        0,
        ge=0,
        description="what the split of patients is drawn from. Studies that differ in seed, method or labels test on "
        "the same patients",
    )
    validation_fraction: float = Field(
        0.1, ge=0, lt=1, description="patients followed during fine-tuning, of those a supervised stage can judge"
    )
    test_fraction: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="patients kept for the last evaluation, of those a supervised stage can judge. The others are "
        "trained on",
    )

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
