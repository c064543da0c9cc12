"""What a data protection officer asks of federated learning, and where such questions come from.

The sources are named so that a lawyer finds them. Nothing is quoted, and no answer here is legal advice.
"""

from dataclasses import dataclass

EDPB = "EDPB Opinion 28/2024 on AI models"
EDPS = "EDPS TechDispatch 1/2025 on federated learning"
EHDS = "Regulation (EU) 2025/327, European Health Data Space"
NIST = "NIST SP 800-226 on differential privacy"
SATRE = "SATRE, specification of trusted research environments"
GDPR = "Regulation (EU) 2016/679, GDPR"


@dataclass(frozen=True)
class Question:
    """One question."""

    key: str
    text: str
    asked_by: tuple[str, ...]
    caution: str = ""  # what the answer does not say


QUESTIONS = (
    Question("study", "What was done, and with which study?", (GDPR, EHDS)),
    Question("approval", "Who allowed it, and can that be shown?", (SATRE, EHDS)),
    Question(
        "left",
        "What left the hospital?",
        (EHDS, SATRE),
        "Names, counts and bytes are those of this program's own answers. Any network connection also shows times, "
        "sizes and addresses.",
    ),
    Question("refused", "What was asked for and not given?", (SATRE,)),
    Question(
        "noise",
        "What bounds how much the weights tell of a patient?",
        (NIST, EDPB),
        "Epsilon covers the weights alone. The number of cases and the metrics leave without noise.",
    ),
    Question(
        "masks",
        "Does the coordinator see this hospital's update alone?",
        (EDPS, NIST),
        "Masks hide an update from the coordinator until it is added up. They bound nothing that the sum tells.",
    ),
    Question(
        "attacks",
        "Can somebody tell from the model, or from what left, who took part?",
        (EDPB, EDPS),
        "An attack that fails proves nothing about others.",
    ),
    Question("cells", "Are numbers about few patients held back?", (SATRE, EHDS)),
    Question("patients", "Whose data was used, and who objected?", (GDPR, EHDS)),
    Question(
        "retention",
        "What is kept, and where?",
        (GDPR, SATRE),
        "Deleting files here calls nothing back that has left.",
    ),
    Question(
        "records",
        "Can these records have been changed?",
        (SATRE,),
        "A chain shows a changed or a missing line. It shows lines cut off at the end only to one who noted the head.",
    ),
    Question("stopping", "Can the hospital stop it?", (EHDS, GDPR)),
)
