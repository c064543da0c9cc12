"""The weights a study's encoder starts from: those of an earlier run, or of a 2D network trained on photographs."""

import hashlib
from pathlib import Path

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models import inflate
from prostafed.common.models.checkpoint import list_left_out, read_checkpoint, read_weights
from prostafed.common.models.encoder import Encoder
from prostafed.common.shell.progress import Said, tell
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.study.split import check_split
from prostafed.common.tensors import Tensors, check_layout, read_tensors, select_groups


def load_initial(study: Study, path: Path | None) -> Tensors:
    """Return the encoder's tensors that `study` starts from, named as the network's; {} for random ones. Those of it
    that the run which wrote a checkpoint did not train are not among them: they start as drawn, which is told.

    Raises ConfigurationError where `path` is missing, not wanted, or not the file whose SHA-256 the study names, and
    CheckpointError where its tensors do not fit the study's encoder or hold nothing of it, or it may have seen the
    study's test patients.
    """
    initial = study.initial
    if initial.weights == "random":
        if path is not None:
            raise ConfigurationError(
                f"The study starts from random weights, and {path} was given to start from. Leave it out, or set "
                "weights and sha256 in the study's [initial]."
            )
        return {}
    if path is None:
        raise ConfigurationError(
            f"The study starts from a file ({initial.weights}) with the SHA-256 {initial.sha256}, and none was given. "
            "Name it with --initial FILE."
        )
    assert initial.sha256 is not None, "the study file asks for it"
    _check_sha256(path, initial.sha256)
    network = build_stage_network(study, 1)
    encoder = network["encoder"]
    assert isinstance(encoder, Encoder)
    if initial.weights == "checkpoint":
        return _read_encoder(study, path, select_groups(read_tensors(network), ["encoder"]))
    weights = read_weights(path)
    try:
        return inflate(study.model.encoder, initial.weights, weights, encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_encoder(study: Study, path: Path, expected: Tensors) -> Tensors:
    """Return the tensors of `expected` that a run trained into `path`; tell of others, which the file has to name."""
    tensors, metadata = read_checkpoint(path)
    found, left_out = select_groups(tensors, ["encoder"]), list_left_out(path, metadata)
    if not found:
        raise CheckpointError(
            f"{path} holds no trained encoder: its run shared none. Name the model of another run, or let the study "
            "start from random weights."
        )
    try:
        check_layout({name: array for name, array in expected.items() if name not in left_out}, found)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    check_split(study, metadata, path)
    if missing := sorted(left_out & set(expected)):
        text = f"{path} lacks {len(missing)} of the encoder's {len(expected)} tensors, e.g. {missing[0]}, which its run"
        tell(Said("initial", f"{text} did not train in common (local, share). They start as drawn."))
    return found


def _check_sha256(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    if found != expected:
        raise ConfigurationError(
            f"The study starts from the file with the SHA-256 {expected}, that of {path} is {found}. Name the right "
            "file, or, to start from this one, put its SHA-256 into the study's [initial]: that makes another study."
        )
