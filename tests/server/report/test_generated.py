"""Generated images are called that also where only the sites know it: in a federation of processes."""

import json
from pathlib import Path

import pytest

from prostafed.server.report import write_report


def line(generated: dict[str, float]) -> str:
    metrics = {site: {"loss": 0.5, **({"generated": count} if count else {})} for site, count in generated.items()}
    record = {"stage": 1, "kind": "pretrain", "round": 1, "cases": dict.fromkeys(generated, 8), "metrics": metrics}
    return json.dumps(record) + "\n"


@pytest.mark.parametrize(
    ("generated", "expected"),
    [({"north": 8.0, "south": 8.0}, "Generated images"), ({"north": 8.0, "south": 0.0}, "Partly generated images")],
)
def test_a_site_that_says_its_cases_are_generated_is_shown_so(
    tmp_path: Path, generated: dict[str, float], expected: str
) -> None:
    study = {"name": "tiny", "stage": [{"kind": "pretrain", "method": "conditional", "rounds": 1}]}
    (tmp_path / "study.json").write_text(json.dumps({"study": study, "hash": "abc"}))
    (tmp_path / "rounds.jsonl").write_text(line(generated))
    assert f"<strong>{expected}</strong>" in write_report(tmp_path).read_text()
    (tmp_path / "rounds.jsonl").write_text(line(dict.fromkeys(generated, 0.0)))
    assert "enerated images" not in write_report(tmp_path).read_text()
