"""The network as ONNX, checked: what onnxruntime computes from it is what PyTorch computes."""

import logging
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from prostafed.common.bundle.network import Forward
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.shell.files import write_bytes
from prostafed.common.shell.quiet import quiet

MAX_DIFFERENCE = 1e-3  # of logits


def write_onnx(forward: Forward, path: Path, hideable: tuple[int, ...] = ()) -> float:
    """Write the network to `path`, input "images" (batch, sequence, z, y, x), output "logits"; return the largest
    difference from PyTorch over generated images.

    `hideable` are sequences (channels) that a case may lack: the check also hides them. Raises ConfigurationError
    without the packages it needs, CheckpointError where the network cannot be exported or differs by more than
    MAX_DIFFERENCE.
    """
    try:
        for name in ("onnx", "onnxscript"):  # torch loads both
            import_module(name)
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            f"Exporting needs the package {error.name}, which is not installed. Run: pip install 'prostafed[export]'"
        ) from error
    inputs = _draw_inputs(forward, hideable)
    try:
        with quiet("torch.onnx", level=logging.ERROR):
            program = torch.onnx.export(
                forward,
                (inputs[0],),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            assert program is not None  # of `dynamo`
            content = program.model_proto.SerializeToString()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever stops an exporter, its own words fill pages
        raise CheckpointError(
            f"Expected a network that ONNX can hold, found one whose export failed ({type(error).__name__}). Report it "
            "with the study file."
        ) from error
    write_bytes(path, content)
    difference = 0.0
    for images in inputs:
        with torch.no_grad():
            expected = forward(images).numpy(force=True)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        difference = max(difference, float(np.abs(found - expected).max()))
    if not difference <= MAX_DIFFERENCE:
        raise CheckpointError(
            f"Expected the ONNX model to give PyTorch's logits within {MAX_DIFFERENCE:g}, found a difference of "
            f"{difference:.3g}. Report it with the study file; the model was not exported."
        )
    return difference


def _draw_inputs(forward: Forward, hideable: tuple[int, ...]) -> list[Tensor]:
    """Return generated images, as normalised ones are: all sequences there, and each hideable one missing."""
    generator = Generator().manual_seed(0)
    whole = torch.randn((1, *forward.shape), generator=generator)
    inputs = [whole]
    for channel in hideable:
        hidden = whole.clone()
        hidden[:, channel] = 0
        inputs.append(hidden)
    return inputs
