"""A bundle is written whole or not at all: into a temporary folder beside its place, then one rename."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import torch

from prostafed.common.bundle.monai_files import make_inference, make_metadata
from prostafed.common.bundle.network import Forward, check_answers, fill, make_rule
from prostafed.common.bundle.onnx_file import write_onnx
from prostafed.common.bundle.record import (
    CARD,
    FILES,
    INFERENCE,
    METADATA,
    ONNX,
    RECORD,
    STATE,
    WEIGHTS,
    Bundle,
    Record,
    Thresholds,
    describe,
    hash_file,
)
from prostafed.common.errors import ConfigurationError
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.shell.files import appearing, make_folder, write_bytes, write_json, write_text
from prostafed.common.study import RUN_NAME, Study
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import Tensors


@dataclass(frozen=True)
class Draft:
    """What a bundle is made of."""

    study: Study
    stage: int  # from 1, a fine-tuning one
    tensors: Tensors  # of its whole network
    where: str  # they come from, for errors
    card: str  # Markdown
    authors: str
    origin: str = "federation"
    made: str = ""
    thresholds: Thresholds = Thresholds()  # noqa: RUF009 (frozen)


def write_bundle(target: Path, draft: Draft) -> Bundle:
    """Write the bundle of `draft` as the new folder `target`, and return it.

    Raises ConfigurationError where `target` exists or cannot be written, or the task answers otherwise than it says,
    CheckpointError where the tensors are not the whole network, or the ONNX model does not compute what PyTorch does.
    """
    if not RUN_NAME.fullmatch(target.name):
        raise ConfigurationError(
            f"A bundle's folder is named with letters, digits, '.', '_' and '-' only, found {target.name!r}. Name "
            "another with --out."
        )
    described, release = describe(draft.study, draft.stage), version("prostafed")
    forward = fill(Forward(draft.study, draft.stage), draft.tensors, draft.where)
    check_answers(forward, described["task"], make_rule(draft.thresholds, draft.study.data.spacing_mm))
    hideable = tuple(draft.study.data.sequences.index(name) for name in draft.study.data.allow_missing)
    with _appearing(target) as folder:
        for name in ("configs", "models", "docs"):
            make_folder(folder / name)
        difference = write_onnx(forward, folder / ONNX, hideable)
        save_checkpoint(folder / WEIGHTS, draft.tensors, _describe(draft.study))
        state = BytesIO()
        torch.save(forward.state_dict(), state)
        write_bytes(folder / STATE, state.getvalue())
        write_json(folder / METADATA, make_metadata(described, release, draft.authors, difference))
        write_json(folder / INFERENCE, make_inference(described))
        write_text(folder / CARD, draft.card)
        record = Record(
            name=target.name,
            release=release,
            made=draft.made,
            origin=draft.origin,
            thresholds=draft.thresholds,
            onnx_max_difference=difference,
            files={name: hash_file(folder / name) for name in FILES},
            **described,
        )
        write_json(folder / RECORD, record.model_dump(mode="json"))
    return Bundle(target, record, draft.study)


def _describe(study: Study) -> dict[str, str]:
    return {"study_hash": study.hash(), "split": describe_split(study)}


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` on success and is removed else."""
    if target.exists():
        raise ConfigurationError(f"{target} exists already. Name another folder with --out, or remove that one.")
    make_folder(target.absolute().parent)
    with appearing(target.absolute()) as temporary:
        yield temporary
