"""prostafed.json: which study a model comes from, what it is shown, and the SHA-256 of every file of its bundle."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.shell.configuration import Section, parse
from prostafed.common.study import Finetune, Study, parse_study

RECORD = "prostafed.json"
WEIGHTS = "models/model.safetensors"
STATE = "models/model.pt"
ONNX = "models/model.onnx"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
CARD = "docs/README.md"
FILES = (WEIGHTS, STATE, ONNX, METADATA, INFERENCE, CARD)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Thresholds(Section):
    """How a detection map becomes candidates; values of other tasks are not used."""

    min_confidence: float = Field(0.1, ge=0, le=1, description="candidates below it are not shown; never validated")
    max_candidates: int = Field(5, ge=1, le=255, description="of a case, the most confident ones")
    min_candidate_mm3: float = Field(7.5, ge=0, description="a candidate is larger than this")


class Record(Section):
    """prostafed.json. What follows from the study is repeated for readers without this software."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}$")
    release: str  # of prostafed, that wrote it
    made: str  # when the run ended, ISO 8601; "" where not known
    origin: str  # "federation", or the name of the site whose heads these are
    study: str  # in canonical form
    study_hash: Sha256
    stage: int  # of the study, from 1
    task: str
    sequences: tuple[str, ...]
    allow_missing: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    size: tuple[int, int, int]
    thresholds: Thresholds
    onnx_max_difference: float  # from PyTorch, over logits
    files: dict[str, Sha256]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read: every file is the one that was exported."""

    folder: Path
    record: Record
    study: Study

    @property
    def task(self) -> str:
        """Return the name of the task, one of TASKS."""
        return self.record.task

    @property
    def model_sha256(self) -> str:
        """Return the SHA-256 of the weights."""
        return self.record.files[WEIGHTS]

    @property
    def version(self) -> str:
        """Return what results name as the algorithm's version: release and weights."""
        return f"{self.record.release}+{self.model_sha256[:12]}"


def describe(study: Study, stage: int) -> dict[str, Any]:
    """Return what a record says of `stage` (from 1) of `study`; raises ConfigurationError where it is no fine-tuning
    stage.
    """
    section = study.stage[stage - 1] if 1 <= stage <= len(study.stage) else None
    if not isinstance(section, Finetune):
        raise ConfigurationError(
            f"Expected a fine-tuning stage to export, found stage {stage} of the study {study.name}, which is none: a "
            "pretrained encoder alone predicts nothing. Let the study end with a stage of kind 'finetune'."
        )
    return {
        "study": study.canonical(),
        "study_hash": study.hash(),
        "stage": stage,
        "task": section.task,
        "sequences": study.data.sequences,
        "allow_missing": study.data.allow_missing,
        "spacing_mm": study.data.spacing_mm,
        "size": study.data.size,
    }


def read_record(folder: Path) -> tuple[Record, Study]:
    """Return the record of a bundle and its study; raises ConfigurationError, one sentence, where `folder` is no
    bundle this release can use.
    """
    path = folder / RECORD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{folder} is not a model bundle: it holds no {RECORD}. Name the folder that prostafed-server export made."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON. Copy the bundle again.") from error
    release = values.get("release", "another release") if isinstance(values, dict) else "another release"
    try:
        record = parse(values, Record, str(path))
        study = parse_study(record.study)
        expected = describe(study, record.stage)
    except (ConfigurationError, ValueError) as error:
        reason = " ".join(str(error).splitlines()) if isinstance(error, ConfigurationError) else "not JSON"
        raise ConfigurationError(
            f"{folder} was exported by prostafed {release} for a study this release cannot read "
            f"({reason.rstrip('.')}). Export it again with this release, or install that one."
        ) from error
    if different := [name for name, value in expected.items() if getattr(record, name) != value]:
        raise CheckpointError(
            f"{path}: expected {different[0]} to be that of its study, {expected[different[0]]!r}, found "
            f"{getattr(record, different[0])!r}: the bundle was made for other images. Export it again."
        )
    return record, study


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in `folder`, each file compared with the SHA-256 it was exported with.

    Raises ConfigurationError where `folder` is no bundle, CheckpointError where a file is missing, cut short or another
    one.
    """
    record, study = read_record(folder)
    for name in FILES:
        if name not in record.files:
            raise CheckpointError(f"{folder / RECORD} names no {name}: the bundle is not whole. Export it again.")
        found = _hash(folder / name)
        if found != record.files[name]:
            state = "is missing" if found is None else "is cut short, damaged or changed"
            raise CheckpointError(
                f"{folder / name} {state}: expected the file that was exported, with SHA-256 "
                f"{record.files[name][:12]}..., found {'none' if found is None else f'{found[:12]}...'}. "
                "Copy the bundle again."
            )
    return Bundle(folder, record, study)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:
        return None
