"""What waits for approval is few, short and sound, whatever a coordinator sends."""

from pathlib import Path

import pytest

from prostafed.client.gate import waiting
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.waiting import file_request, forget_request, list_waiting
from prostafed.common.study import Study
from tests.client.tiny_site import FINETUNE, make_study


def named(name: str) -> Study:
    return make_study(FINETUNE, name=name)


def test_a_site_that_was_asked_nothing_has_none_waiting(tmp_path: Path) -> None:
    assert list_waiting(tmp_path) == {}
    forget_request(tmp_path, "ab12")
    assert not list(tmp_path.iterdir())


def test_a_flood_leaves_the_last_ones_and_the_one_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_WAITING", 5)
    ours = named("ours")
    for number in range(30):
        file_request(tmp_path, named(f"flood-{number}"), "evil.example.org:8000")
        file_request(tmp_path, ours, "fl.example.org:8000")
    found = list_waiting(tmp_path)
    assert [each.study.name for each in found.values()] == ["ours", *(f"flood-{n}" for n in (29, 28, 27, 26))]
    assert found[ours.hash()].asked == 30
    assert len(list((tmp_path / "requests").glob("*.json"))) == 5
    lines, _ = read_audit(tmp_path)
    assert len(lines) == 31, "each study stands there once"


def test_a_study_that_is_too_long_is_not_filed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_BYTES", 100)
    for _ in range(3):
        file_request(tmp_path, named("long"), "fl.example.org:8000")
    assert list_waiting(tmp_path) == {}
    (line,), _ = read_audit(tmp_path)
    assert line["reason"] == "the study is too long to be filed"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"study": "{}"}', '{"study": 3}', "\xff"])
def test_a_damaged_file_is_none_and_written_anew(tmp_path: Path, content: str) -> None:
    study = named("ours")
    file_request(tmp_path, study, "a:1")
    path = tmp_path / "requests" / f"{study.hash()}.json"
    path.write_text(content, encoding="latin-1")
    assert list_waiting(tmp_path) == {}
    file_request(tmp_path, study, "a:1")
    assert list_waiting(tmp_path)[study.hash()].asked == 1


def test_a_file_under_another_hash_is_none(tmp_path: Path) -> None:
    file_request(tmp_path, named("ours"), "a:1")
    (path,) = (tmp_path / "requests").glob("*.json")
    path.rename(path.with_name(f"{named('other').hash()}.json"))
    assert list_waiting(tmp_path) == {}
