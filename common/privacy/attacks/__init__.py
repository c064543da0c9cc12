"""Attacks on what a federation trains and tells, as pure functions of arrays. Nothing here loads torch but `inversion`.

ATTACKS says of each what it asks, who could carry it out and with what in hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class About:
    """What a reader must know of an attack: what it asks, who could carry it out, what that takes, what it means."""

    title: str
    asks: str
    who: str
    needs: str
    meaning: str


ATTACKS: Mapping[str, About] = MappingProxyType(
    {
        "membership": About(
            "Membership in the training set",
            "Was this patient trained on?",
            "whoever holds the model, or its encoder, and the patient's images",
            "the encoder; for losses the heads and the patient's labels, too; for 'calibrated' a second model that "
            "never saw the patient",
            "An AUC of 0.5 is guessing, 1 is certainty. Above 0.5 the model remembers its patients.",
        ),
        "differencing": About(
            "Two answers that differ in one patient",
            "Which patient is the one that two answers differ in?",
            "the coordinator, if a hospital approves two studies that judge nearly the same patients",
            "both answers, the model, and the images and labels of the candidates",
            "A site answers about its test patients once per study and stage. This is what a second answer would tell.",
        ),
        "histograms": About(
            "Labels that follow from histograms",
            "Does a patient's diagnosis follow from the counts that left?",
            "the coordinator, of a patient known to be among the test patients",
            "the histogram, the model and the patient's images",
            "In a cell of one label only everybody has that label. Cells of few patients are joined by minimum_cell.",
        ),
        "inversion": About(
            "An image from an update",
            "Can an image be drawn from one update?",
            "the coordinator, who sees updates alone unless they are masked",
            "one update after a single step, the weights before it, and the label",
            "Chance is how like another patient's image is. Likeness far above it is a reconstruction. A small network "
            "and one step favour the attack.",
        ),
        "labels": About(
            "A label from an update",
            "Does the last layer's update tell a diagnosis?",
            "the coordinator, where the study's share names the heads; by default they stay at the site",
            "one update of the heads after a single step",
            "The sign of the bias' gradient is the label of a single case.",
        ),
        "origin": About(
            "The hospital behind an update",
            "Which hospital does an update come from?",
            "somebody who sees updates without names, and updates with names from other rounds",
            "updates of several rounds",
            "The coordinator is told the name anyway. If this works, leaving the name out would hide nothing.",
        ),
    }
)
