"""Example slices of emulated hospitals for the report. In a real federation no image leaves a site; here all are
ours.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.client.ingest.quality.page import choose_slice
from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.client.training.evaluate import predict
from prostafed.common.imaging.cases import MASKS
from prostafed.common.shell.files import make_folder, write_bytes
from prostafed.common.study import Finetune, Study
from prostafed.common.tasks import build_task
from prostafed.simulations.federation.hospitals import Hospital
from prostafed.simulations.run.arms import ArmRun
from prostafed.simulations.run.ensembling import load_last

PER_HOSPITAL = 2


def write_examples(study: Study, arm: ArmRun, hospitals: Sequence[Hospital], folder: Path) -> None:
    """Write .npz files: for each hospital the slices through its two most telling cases, with the arm's
    detection maps.
    """
    make_folder(folder)
    for hospital, site_file in zip(hospitals, arm.site_files, strict=True):
        workplace = open_workplace(site_file, arm.study.canonical())
        for number, index in enumerate(_choose_cases(workplace), start=1):
            content = BytesIO()
            np.savez_compressed(content, **_show_case(study, arm, hospital, workplace, index))  # type: ignore[arg-type]
            write_bytes(folder / f"{hospital.name}-{number}.npz", content.getvalue())


def _show_case(
    study: Study, arm: ArmRun, hospital: Hospital, workplace: Workplace, index: int
) -> dict[str, npt.NDArray[Any]]:
    image, masks = workplace.cases.load(index)
    level, record = choose_slice(masks)[0], workplace.cases.records[index]
    planes: dict[str, npt.NDArray[Any]] = {
        str(name): image[channel, level] for channel, name in enumerate(study.data.sequences)
    }
    planes |= {name: masks[channel, level] for channel, name in enumerate(MASKS)}
    detection = _detect(study, arm, workplace, index)
    if detection is not None:
        planes["detection"] = detection[level]
    split = next(split for split, chosen in workplace.splits.items() if index in chosen)
    texts = {
        "site": hospital.name,
        "case_id": record.case_id,
        "source": hospital.source,
        "caption": f"{split} case, {_describe(record.cspca)}",
    }
    return planes | {name: np.array(text) for name, text in texts.items()}


def _choose_cases(workplace: Workplace) -> list[int]:
    """The cases with the largest lesions: those tested on, then, where these are too few, those trained on."""

    def lesion_size(index: int) -> int:
        return int(workplace.cases.load(index)[1][MASKS.index("lesion")].sum())

    order = [sorted(workplace.splits[split], key=lesion_size, reverse=True) for split in ("test", "train")]
    return [index for chosen in order for index in chosen][:PER_HOSPITAL]


def _detect(study: Study, arm: ArmRun, workplace: Workplace, index: int) -> npt.NDArray[np.float32] | None:
    stage = study.stage[-1]
    if not isinstance(stage, Finetune) or (task := build_task(stage.task)).kind != "heat map":
        return None
    _, prediction = next(predict(load_last(arm, workplace), task, workplace.feed([index]), 1, workplace.machine))
    return prediction


def _describe(cspca: bool | None) -> str:
    return {
        True: "clinically significant cancer",
        False: "no clinically significant cancer",
        None: "diagnosis unknown",
    }[cspca]
