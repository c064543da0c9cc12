"""A bundle is whole, is a MONAI bundle, and its ONNX model is its PyTorch model."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser, verify_net_in_out

from prostafed.common.bundle import onnx_file
from prostafed.common.bundle.network import Forward, fill, load_forward
from prostafed.common.bundle.onnx_file import write_onnx
from prostafed.common.bundle.record import CARD, FILES, INFERENCE, METADATA, ONNX, RECORD, STATE, Bundle
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.imaging.geometry import prepare_case
from prostafed.common.tasks import TASKS
from tests.common.bundle.tiny_bundle import GRID, make_bundle, make_study, make_tensors

# The keys that MONAI's bundle specification calls mandatory.
MANDATORY = {
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "optional_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
}
OF_A_TENSOR = {
    "type",
    "format",
    "modality",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
    "channel_def",
}
CPU = torch.device("cpu")


def test_every_file_is_there_and_nothing_else(bundle: Bundle) -> None:
    found = {str(path.relative_to(bundle.folder)) for path in bundle.folder.rglob("*") if path.is_file()}
    assert found == {*FILES, RECORD}
    assert (bundle.folder / CARD).read_text() == "# A card\n"
    assert list(bundle.folder.parent.iterdir()) == [bundle.folder]  # no temporary folder is left


def test_onnx_gives_what_pytorch_gives_for_any_batch(bundle: Bundle) -> None:
    images = torch.randn(3, 3, *GRID.size)
    images[2, 2] = 0  # the last case lacks its high b
    expected = load_forward(bundle, CPU)(images)
    session = onnxruntime.InferenceSession(bundle.folder / ONNX, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    assert expected.shape == (3, 1, *GRID.size)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4)
    assert 0 < bundle.record.onnx_max_difference < 1e-3


def test_a_missing_sequence_changes_the_onnx_model_too(tmp_path: Path) -> None:
    study = make_study("classify", allow_missing=["hbv"])
    forward = Forward(study, 1)
    for shift in forward.network["encoder"].absence:  # type: ignore[union-attr]
        torch.nn.init.normal_(shift.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert write_onnx(forward, tmp_path / "model.onnx", hideable=(2,)) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(1, 3, *GRID.size)).astype(np.float32)
    whole = session.run(None, {"images": images})[0]
    images[:, 2] = 0
    tiny = images.copy()
    tiny[:, 2] = 1e-6  # there, though nearly nothing: only the encoder's knowledge tells the two apart
    told, untold = (session.run(None, {"images": each})[0] for each in (images, tiny))
    assert abs(told - whole) > 1e-3
    assert abs(told - untold) > 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_exported(task: str, tmp_path: Path) -> None:
    forward = Forward(make_study(task), 1)
    assert write_onnx(forward, tmp_path / "model.onnx") < 1e-4


def test_a_model_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(CheckpointError, match="within -1, found a difference of"):
        make_bundle(tmp_path / "one", make_study("classify"))
    assert list(tmp_path.iterdir()) == []  # nothing of it is left


def test_metadata_are_monais(bundle: Bundle) -> None:
    metadata = json.loads((bundle.folder / METADATA).read_text())
    assert set(metadata) >= MANDATORY
    form = metadata["network_data_format"]
    for tensor in (*form["inputs"].values(), *form["outputs"].values()):
        assert set(tensor) >= OF_A_TENSOR
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert form["inputs"]["image"]["spatial_shape"] == list(GRID.size)
    assert metadata["onnx_max_difference"] == bundle.record.onnx_max_difference
    assert "not for diagnosis" in metadata["intended_use"]


def test_monai_finds_the_network_as_the_metadata_say(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.folder)
    verify_net_in_out("network_def", meta_file=METADATA, config_file=INFERENCE, device="cpu")


def test_monais_parser_runs_the_inference_config(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {}
    for name in ("t2w", "adc", "hbv"):
        images[name] = sitk.GetImageFromArray(rng.random((8, 20, 20), dtype=np.float32))
        images[name].SetSpacing((0.8, 0.8, 3.0))
        sitk.WriteImage(images[name], str(tmp_path / f"{name}.nii.gz"))
    parser = ConfigParser()
    parser.read_config(str(bundle.folder / INFERENCE))
    parser.read_meta(str(bundle.folder / METADATA))
    parser["bundle_root"], parser["output"] = str(bundle.folder), str(tmp_path / "prediction.npy")
    parser["images"] = {name: str(tmp_path / f"{name}.nii.gz") for name in images}
    parser["device"] = "$torch.device('cpu')"
    enabled = torch.is_grad_enabled()
    try:
        parser.get_parsed_content("initialize")
        parser.get_parsed_content("run")
    finally:
        torch.set_grad_enabled(enabled)
    image, _ = prepare_case("x", images, {}, GRID)
    (expected,) = load_forward(bundle, CPU).predict(torch.from_numpy(image).float()[None])
    np.testing.assert_allclose(np.load(tmp_path / "prediction.npy"), expected, atol=1e-6)


def test_both_weight_files_hold_the_same(bundle: Bundle) -> None:
    state = torch.load(bundle.folder / STATE, weights_only=True)
    loaded = load_forward(bundle, CPU).state_dict()
    assert set(state) == set(loaded)
    assert all(torch.equal(state[name], loaded[name]) for name in state)


def test_what_exists_is_not_overwritten(bundle: Bundle) -> None:
    with pytest.raises(ConfigurationError, match="exists already"):
        make_bundle(bundle.folder, make_study())


def test_a_name_that_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="named with letters"):
        make_bundle(tmp_path / "my model", make_study())


def test_weights_that_are_not_whole_or_not_finite_are_refused() -> None:
    study = make_study()
    tensors = make_tensors(study)
    first = next(iter(tensors))
    with pytest.raises(CheckpointError, match=f"here: .*{first} is missing"):
        fill(Forward(study, 1), {name: array for name, array in tensors.items() if name != first}, "here")
    tensors[first] = np.full_like(tensors[first], np.nan)
    with pytest.raises(CheckpointError, match=f"here: expected finite weights, found NaN or infinity in {first}:"):
        fill(Forward(study, 1), tensors, "here")
