"""Trouble on purpose: what goes wrong at an emulated site, in which rounds, and what it does to an update.

Each fault draws its lot per round from (study seed, stage, round, site, kind): a rerun meets the same trouble.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.configuration import Section
from prostafed.common.tensors import Tensors

Kind = Literal["dropout", "straggler", "crash", "absent", "nan", "wrong_shape", "sign_flip", "scaled", "label_flip"]


class Fault(Section):
    """Something that goes wrong at a site. Engine local only."""

    kind: Kind = Field(
        description="'dropout' gives no update, 'straggler' answers delay_s late, 'crash' fails while it trains, "
        "'absent' is not connected, 'nan', 'wrong_shape', 'sign_flip' and 'scaled' send such an update, 'label_flip' "
        "learns from wrong labels throughout (csPCa and PI-RADS of its training patients; contours stay)"
    )
    probability: float = Field(1.0, gt=0, le=1, description="in each round of the span")
    first_round: int = Field(1, ge=1, description="counted over all stages")
    last_round: int | None = Field(None, ge=1, description="by default the run's last")
    delay_s: float = Field(0.0, ge=0, description="kind 'straggler' only")
    factor: float = Field(10.0, description="kind 'scaled' only: the update is multiplied by it")

    @model_validator(mode="after")
    def _in_order(self) -> "Fault":
        if self.last_round is not None and self.last_round < self.first_round:
            raise ValueError(f"last_round must be at least first_round, {self.first_round}, found {self.last_round}.")
        return self


class Faults:
    """The faults of a federation's sites, by site."""

    def __init__(self, by_site: Mapping[str, Sequence[Fault]], seed: int, rounds: Sequence[int]) -> None:
        """`rounds`: of each of the study's stages, so that a round can be counted over all of them."""
        self._by_site, self._seed, self._rounds = by_site, seed, tuple(rounds)

    def __bool__(self) -> bool:
        """Whether anything can go wrong."""
        return any(self._by_site.values())

    def happening(self, site: str, stage: int, number: int, attempt: int = 1) -> dict[str, Fault]:
        """Return what goes wrong at `site` in a round of a stage, by kind; each further attempt draws anew."""
        again = [attempt] if attempt > 1 else []
        counted = sum(self._rounds[: stage - 1]) + number
        found: dict[str, Fault] = {}
        for fault in self._by_site.get(site, ()):
            lot = derive_seed(self._seed, stage, number, site, "fault", fault.kind, *again) / 2**63
            if fault.first_round <= counted <= (fault.last_round or counted) and lot < fault.probability:
                found[fault.kind] = fault
        return found

    def after(self, stage: int, number: int) -> tuple[int, int]:
        """Return stage and number of the round that follows one."""
        return (stage, number + 1) if number < self._rounds[stage - 1] else (stage + 1, 1)


SPOILING = ("nan", "scaled", "sign_flip")  # of the values that travel, which have to be floats


def tamper(faults: Mapping[str, Fault], sent: Tensors, payload: Tensors, compress: str) -> Tensors:
    """Return what a site answers with: `payload`, as it travels under `compress`, spoilt as its faults say. `sent` is
    what the site started from.
    """
    if not payload:
        return {}
    sign = -1.0 if "sign_flip" in faults else 1.0
    factor = sign * (faults["scaled"].factor if "scaled" in faults else 1.0)
    spoilt = dict(payload)
    for name, array in payload.items():
        if factor == 1.0 or not np.issubdtype(array.dtype, np.floating):
            continue
        start = sent[name] if compress == "none" else np.zeros_like(array)  # compressed ones are differences already
        spoilt[name] = (start + factor * (array - start)).astype(array.dtype)
    first = min(spoilt, key=lambda name: (not np.issubdtype(spoilt[name].dtype, np.floating), name))
    if "nan" in faults:
        spoilt[first] = np.full_like(spoilt[first], np.nan)
    if "wrong_shape" in faults:
        spoilt[first] = spoilt[first][..., np.newaxis]
    return spoilt


def flip_labels(record: CaseRecord) -> CaseRecord:
    """Return the record with csPCa and PI-RADS turned round (1 becomes 5, 2 becomes 4); contours stay."""
    reads = tuple(6 - score for score in record.pirads_reads)
    cspca = None if record.cspca is None else not record.cspca
    return replace(record, cspca=cspca, isup=None, pirads_reads=reads)
