"""configs/metadata.json and configs/inference.json of a bundle, as MONAI's bundle specification has them."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from prostafed.common.bundle.record import RECORD, STATE
from prostafed.common.tasks import build_task

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
INTENDED_USE = "Research. Not a medical device, not for diagnosis or for any decision about a patient."
SEQUENCES = {
    "t2w": "T2-weighted, axial",
    "adc": "apparent diffusion coefficient",
    "hbv": "diffusion-weighted, b >= 1200 s/mm2 acquired, calculated or computed",
}
_FORMS = {  # MONAI's type and format of each kind of answer
    "score": ("probabilities", "classes"),
    "heat map": ("image", "classes"),
    "structures": ("image", "labels"),
    "quantities": ("tuples", "raw"),
}


def make_metadata(described: Mapping[str, Any], release: str, authors: str, difference: float) -> dict[str, Any]:
    """Return metadata.json of what `record.describe` says of a stage.

    `difference` is that of the ONNX model's logits from PyTorch's.
    """
    task, size = build_task(described["task"]), list(described["size"])
    channels, (form, values) = task.channels, _FORMS[task.kind]
    return {
        "schema": SCHEMA,
        "version": release,
        "changelog": {release: "exported"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"prostafed": release, "SimpleITK": version("SimpleITK")},
        "optional_packages_version": {},
        "supported_apps": {},
        "name": f"prostafed {described['task']}",
        "task": task.sentence,
        "description": (
            f"{task.sentence}, from biparametric prostate MRI: {', '.join(described['sequences'])}. Learnt in a "
            "federation of hospitals; no image left a hospital. The model card is docs/README.md."
        ),
        "authors": authors,
        "copyright": "Held as the hospitals that trained it agreed; no licence is given by this file",
        "intended_use": INTENDED_USE,
        "data_type": "DICOM",
        "image_classes": "each sequence on one grid, clipped to its 0.5 and 99.5 percentiles, mean 0, deviation 1",
        "pred_classes": "; ".join(f"{number}: {meaning}" for number, meaning in enumerate(channels)),
        "study_hash": described["study_hash"],
        "onnx_max_difference": difference,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": len(described["sequences"]),
                    "spatial_shape": size,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(number): SEQUENCES[name] for number, name in enumerate(described["sequences"])},
                }
            },
            "outputs": {
                "pred": {
                    "type": form,
                    "format": values,
                    "modality": "n/a",
                    "num_channels": len(channels),
                    "spatial_shape": size if task.maps else [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(number): meaning for number, meaning in enumerate(channels)},
                }
            },
        },
    }


def make_inference(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return inference.json: `python -m monai.bundle run --config_file configs/inference.json --bundle_root .` reads
    the image files named in `images`, one per sequence, and writes the prediction on the bundle's grid to `output`.
    """
    return {
        "imports": ["$import numpy", "$import torch"],
        "bundle_root": ".",
        "images": {name: f"{name}.nii.gz" for name in described["sequences"]},
        "output": "prediction.npy",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "prostafed.common.bundle.network.build_forward", "folder": "@bundle_root"},
        "network": "$@network_def.to(@device)",
        "state": f"$torch.load(@bundle_root + '/{STATE}', map_location=@device, weights_only=True)",
        "preprocessing": {
            "_target_": "prostafed.common.bundle.preparing.Preparation",
            "record": f"$@bundle_root + '/{RECORD}'",
        },
        "inferer": {"_target_": "SimpleInferer"},
        "initialize": ["$@network.load_state_dict(@state)", "$@network.eval()", "$torch.set_grad_enabled(False)"],
        "image": "$@preprocessing(@images).to(@device)",
        "logits": "$@inferer(inputs=@image, network=@network)",
        "run": ["$numpy.save(@output, @network_def.task.predict(@logits[0]))"],
    }
