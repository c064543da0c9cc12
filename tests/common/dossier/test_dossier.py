"""The dossier: every question is answered, if only by "not known"; no claim without a test."""

import json
from pathlib import Path

from prostafed.common.dossier.page import NO_ADVICE, show_dossier, write_dossier
from prostafed.common.dossier.questions import QUESTIONS
from prostafed.common.dossier.record import NOT_KNOWN, Dossier, Fact
from prostafed.common.dossier.words import (
    ATTACK_TESTS,
    say_attacks,
    say_bytes,
    say_controls,
    say_metrics,
    say_privacy,
    say_withheld,
)
from prostafed.common.privacy.attacks import ATTACKS
from prostafed.common.study import Privacy
from tests.common.privacy.attacks.test_finding import FOUND

ROOT = Path(__file__).resolve().parents[3]
DOSSIER = Dossier(
    title="Privacy dossier",
    whose="hospital north",
    run="first",
    study="tiny",
    study_hash="ab" * 32,
    made="2026-11-27T01:02:03+00:00",
    release="1.0",
    generated=True,
    facts=(
        Fact("left", "Answers", "3 to train", "outbox.jsonl", "tests/test_structure.py"),
        Fact("left", "<b>Names</b>", None, ""),
    ),
)


def test_every_question_is_answered_if_only_by_not_known(tmp_path: Path) -> None:
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    page = write_dossier(tmp_path, "first", DOSSIER)
    html, told = page.read_text(), json.loads((tmp_path / "first.json").read_text())
    assert [each["key"] for each in told["answers"]] == [question.key for question in QUESTIONS]
    assert all(each["facts"] and each["asked_by"] for each in told["answers"])
    for number, question in enumerate(QUESTIONS, start=1):
        assert f"{number}. {question.text.replace(chr(39), '&#39;')}" in html
    assert html.count(NOT_KNOWN) >= len(QUESTIONS)
    assert NO_ADVICE in html
    assert "Generated images" in html


def test_names_are_text_and_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    html = write_dossier(tmp_path, "first", DOSSIER).read_text()
    assert "&lt;b&gt;Names&lt;/b&gt;" in html
    assert "http" not in html
    assert "<script" not in html


def test_a_terminal_is_told_the_same() -> None:
    said = show_dossier(DOSSIER)
    assert "3. What left the hospital?\n   Answers: 3 to train\n   <b>Names</b>: not known" in said
    assert "1. What was done, and with which study?\n   Answer: not known" in said


def test_attacks_are_told_with_intervals_and_missing_ones_as_not_known() -> None:
    facts = list(say_attacks(FOUND, "attacks.json"))
    assert facts[0].label == "Membership, north, loss"
    assert facts[0].value == "AUC 0.71 (0.60 to 0.80), chance 0.50: above chance (9)"
    assert [(fact.label, fact.said) for fact in facts[1:]] == [("Labels", NOT_KNOWN)]
    assert [fact.said for fact in say_attacks(None, "")] == [NOT_KNOWN]


def test_every_attack_has_a_test_that_is_there() -> None:
    assert ATTACK_TESTS.keys() == ATTACKS.keys()
    assert all((ROOT / test).is_file() for test in ATTACK_TESTS.values())


def test_metrics_are_told_in_a_few_words() -> None:
    names = ["loss", "test/auroc", "test/auroc_low", "test/score_histogram/positive/012", "validation/withheld/n"]
    assert say_metrics(names) == "test: auroc, score_histogram/positive; train: loss; validation: withheld/n"
    assert say_metrics([]) == "none"
    assert say_withheld([*names, "validation/withheld/n"]) == "validation/withheld/n 2 times"
    assert say_withheld(names[:2]) == "nothing"


def test_bytes_and_controls_by_hand() -> None:
    assert [say_bytes(size) for size in (0, 999, 1000, 3_240_000, 5 * 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "3.2 MB",
        "5000.0 GB",
    ]
    assert say_controls(Privacy()).startswith("no differential privacy and no secure aggregation")
    noisy = Privacy(unit="patient", epsilon=3.0)
    assert say_privacy(noisy) == "noise that hides each patient: epsilon 3 at most, delta 1e-05, clip 1"
    assert "noise 2" in say_privacy(Privacy(unit="site", noise=2.0))
    masked = say_controls(Privacy(secure_aggregation=True))
    assert (
        masked
        == "no noise: nothing bounds what the weights tell; masks on updates: the coordinator learns their sum alone"
    )
