"""What a dossier holds: facts, each with the file it was read from and the test that holds the claim behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prostafed.common.dossier.questions import QUESTIONS, Question

NOT_KNOWN = "not known"
# Question -> what the head of the page calls it
GLANCE = (
    ("approval", "Approved by"),
    ("left", "Left the hospital"),
    ("noise", "Noise"),
    ("masks", "Masks"),
    ("attacks", "Attacks"),
)


@dataclass(frozen=True)
class Fact:
    """One figure of a run."""

    question: str  # key of the question it answers
    label: str
    value: str | None  # None: not known
    source: str  # the file, or files, it was read from; "" where there is none yet
    test: str = ""  # of prostafed's own tests, that shows that the program does what the figure says

    @property
    def said(self) -> str:
        """The value as a reader is told it."""
        return NOT_KNOWN if self.value is None else self.value


@dataclass(frozen=True)
class Dossier:
    """The dossier of a run, as a hospital or a coordinator can make it."""

    title: str
    whose: str  # "hospital NAME" or "coordinator"
    run: str
    study: str  # its name, "" where not known
    study_hash: str
    made: str  # ISO 8601
    release: str  # of prostafed
    generated: bool | None  # whether no patient was imaged; None: not known
    facts: tuple[Fact, ...]

    def answers(self) -> Sequence[tuple[Question, tuple[Fact, ...]]]:
        """Return every question with its facts; a question without a fact is answered by "not known"."""
        answered = []
        for question in QUESTIONS:
            facts = tuple(fact for fact in self.facts if fact.question == question.key)
            answered.append((question, facts or (Fact(question.key, "Answer", None, ""),)))
        return answered

    def glance(self) -> tuple[tuple[str, str], ...]:
        """Return (question in a word, first fact) of what is asked first, and how much is not known."""
        first = [
            (name, next(facts[0].said for question, facts in self.answers() if question.key == key))
            for key, name in GLANCE
        ]
        facts = [fact for _, each in self.answers() for fact in each]
        unknown = sum(fact.value is None for fact in facts)
        return (*first, ("Not known", f"{unknown} of {len(facts)} figures"))

    def as_json(self) -> Mapping[str, Any]:
        """Return it for a program."""
        about = {name: value for name, value in asdict(self).items() if name != "facts"}
        answers = [
            {
                "key": question.key,
                "question": question.text,
                "asked_by": list(question.asked_by),
                "facts": [
                    {"label": fact.label, "value": fact.value, "source": fact.source, "test": fact.test}
                    for fact in facts
                ],
            }
            for question, facts in self.answers()
        ]
        return {"format": 1, **about, "answers": answers}
