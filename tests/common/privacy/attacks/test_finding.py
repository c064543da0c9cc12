"""The file of what attacks found, and what is said of it."""

from pathlib import Path

import pytest

from prostafed.common.errors import DataError
from prostafed.common.privacy.attacks import ATTACKS
from prostafed.common.privacy.attacks.finding import Finding, Findings, read_findings, write_findings
from prostafed.common.privacy.attacks.show import CAUTION, say_figure, show_findings, write_attacks_page

FINDING = Finding(
    attack="membership", variant="loss", site="north", measure="AUC", value=0.71, low=0.6, high=0.8, chance=0.5, of="9"
)
FOUND = Findings(
    run="first",
    study_hash="ab" * 32,
    model_sha256="cd" * 32,
    seed=0,
    made="2026-11-27T00:00:00+00:00",
    generated=True,
    findings=(FINDING,),
    left_out={"labels": "Nothing was there."},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_findings(tmp_path / "attacks.json", FOUND)
    assert read_findings(tmp_path / "attacks.json") == FOUND
    assert read_findings(tmp_path / "absent.json") is None


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "attacks.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match="cannot be read as what an attack found"):
        read_findings(tmp_path / "attacks.json")


def test_a_value_outside_its_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="within"):
        Finding(**{**FINDING.model_dump(), "value": 0.9})


def test_chance_within_the_interval_is_not_above_it() -> None:
    assert FINDING.verdict == "above chance"
    assert Finding(**{**FINDING.model_dump(), "low": 0.5}).verdict == "not above chance"


def test_no_number_is_said_without_its_interval() -> None:
    assert say_figure(FINDING) == "0.71 (0.60 to 0.80), chance 0.50"
    said = show_findings(FOUND)
    assert "north, loss  AUC: 0.71 (0.60 to 0.80), chance 0.50 (9): above chance" in said
    assert "Not carried out. Nothing was there." in said
    assert ATTACKS["inversion"].title not in said
    assert said.endswith(CAUTION)


def test_the_page_names_who_could_do_it(tmp_path: Path) -> None:
    page = write_attacks_page(tmp_path, FOUND).read_text()
    for text in (
        "Generated images",
        ATTACKS["membership"].who.replace("'", "&#39;"),
        "0.60–0.80",
        "Nothing was there.",
    ):
        assert text in page
    assert "http" not in page
