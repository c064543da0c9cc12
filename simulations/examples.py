"""One example slice per emulated hospital for the report. In a real federation no image leaves a site; here all are
ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.client.training.evaluate import predict
from prostafed.client.work import Workplace, load_network, open_workplace
from prostafed.common.files import make_folder, replacing
from prostafed.common.imaging.cases import MASKS, Masks
from prostafed.common.messages import Request
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import Finetune, Study
from prostafed.common.tasks import build_task
from prostafed.simulations.arms import ArmRun
from prostafed.simulations.hospitals import Hospital


def write_examples(study: Study, arm: ArmRun, hospitals: Sequence[Hospital], folder: Path) -> None:
    """Write one .npz per hospital: the slice through its most telling test case, with the arm's detection map if it
    has one.
    """
    make_folder(folder)
    for hospital, site_file in zip(hospitals, arm.site_files, strict=True):
        workplace = open_workplace(site_file, study.canonical())
        index = _choose_case(workplace)
        image, masks = workplace.cases.load(index)
        level = _choose_slice(masks)
        record = workplace.cases.records[index]
        planes: dict[str, npt.NDArray[Any]] = {
            str(name): image[channel, level] for channel, name in enumerate(study.data.sequences)
        }
        planes |= {name: masks[channel, level] for channel, name in enumerate(MASKS)}
        detection = _detect(study, arm, workplace, index)
        if detection is not None:
            planes["detection"] = detection[level]
        texts = {
            "site": hospital.name,
            "case_id": record.case_id,
            "source": hospital.source,
            "caption": _describe(record.cspca),
        }
        with replacing(folder / f"{hospital.name}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **planes, **{name: np.array(text) for name, text in texts.items()})  # type: ignore[arg-type]


def _choose_case(workplace: Workplace) -> int:
    """The test case with the largest lesion; without lesions, the first test case."""
    lesion = MASKS.index("lesion")
    chosen = workplace.splits["test"] or workplace.splits["train"]
    return max(chosen, key=lambda index: int(workplace.cases.load(index)[1][lesion].sum()))


def _choose_slice(masks: Masks) -> int:
    """The slice with most lesion; without one, with most gland; without that, the middle one."""
    for name in ("lesion", "gland"):
        area = (masks[MASKS.index(name)] > 0).sum(axis=(1, 2))
        if area.any():
            return int(area.argmax())
    return int(masks.shape[1] // 2)


def _detect(study: Study, arm: ArmRun, workplace: Workplace, index: int) -> npt.NDArray[np.float32] | None:
    number, stage = len(study.stage), study.stage[-1]
    if not isinstance(stage, Finetune):
        return None
    tensors, _ = read_checkpoint(arm.folder / "model.safetensors")
    request = Request("evaluate", arm.run, study.hash(), number, stage.rounds, tensors)
    network = load_network(workplace, request, stage.rounds)
    _, prediction = next(iter(predict(network, build_task(stage.task), workplace.cases, [index], 1, workplace.device)))
    return prediction if prediction.ndim == 3 else None


def _describe(cspca: bool | None) -> str:
    return {
        True: "clinically significant cancer",
        False: "no clinically significant cancer",
        None: "diagnosis unknown",
    }[cspca]
