"""Prostate volume from the image, as radiologists reported it: a regression."""

from torch import tensor

from prostafed.common.metrics.measure import Measure
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.heads import ClassificationHead
from prostafed.common.tasks.answer import Answer, Quantity
from prostafed.common.tasks.task import Task

USUAL_ML = 50.0  # the network says by how many times this it is more


def build() -> Task:
    """Return the task: image vector -> one number, squared error."""
    return Task(
        heads={"head": lambda encoder: ClassificationHead(encoder.vector_size)},
        usable=lambda record: record.prostate_volume is not None,
        targets=lambda records, masks: tensor([(record.prostate_volume or 0) / USUAL_ML - 1 for record in records]),
        teaches_cspca=False,
        outputs=lambda network, images: network["head"](network["encoder"].describe(images)),  # type: ignore[operator]
        channels=("prostate volume beyond 50 mL, in units of 50 mL",),
        loss=lambda said, true: (said.float() - true.to(said.device)) ** 2,
        predict=lambda said: (USUAL_ML * (1 + said.float())).numpy(force=True),
        assess=lambda volume, record, masks, spacing_mm: CasePrediction(
            record.case_id,
            record.patient_id,
            label=None,
            score=None,
            measures={"volume_error_ml": abs(float(volume) - (record.prostate_volume or 0))},
        ),
        read=lambda volume, rule: Answer(
            quantities=(Quantity("prostate_volume", "Prostate volume", float(volume), "mL"),)
        ),
        kind="quantities",
        metrics=("volume_error_ml",),
        measures={"volume_error_ml": Measure("Volume error", "mean distance from the report", False, "mL", most=1e6)},
        sentence="Measures the volume of the prostate",
        says="One number, the volume of the prostate in mL, learnt from what reports say.",
    )
