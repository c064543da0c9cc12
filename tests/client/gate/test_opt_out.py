"""Who objects is trained on no more, by a worker that runs as well, and nothing that was made with him leaves."""

import json
from pathlib import Path

import pytest

from prostafed.client.gate.ledger import Limit, Use, begin
from prostafed.client.gate.opt_out import FILE, describe_withdrawn, keep_opted_out, read_opted_out
from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.training.step import Draw, Stepper
from prostafed.common.errors import DataError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.imaging.case_folder import CaseFolder, case_path
from prostafed.common.tensors import hash_tensors
from tests.client.gate.hospital import STUDY, ask_round, make_hospital, put
from tests.client.tiny_site import FINETUNE, ask, make_study, watching


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    return make_hospital(tmp_path / "north")


def someone(site_file: Path) -> str:
    """Return a patient who is trained on."""
    place = open_workplace(site_file, STUDY.canonical(), 1)
    return place.cases.records[place.splits["train"][0]].patient_id


def object_to(site_file: Path, patient: str, removed: bool = True) -> None:
    """Do what `prostafed-site index` does where a patient objects; each patient of this site has one case."""
    assert keep_opted_out(site_file.parent / "memory", {patient}, set()) == {patient}
    if removed:
        case_path(site_file.parent / "cases", patient).unlink()


def train(site_file: Path, number: int = 1) -> Reply:
    answer = put(site_file, ask_round(number))
    assert isinstance(answer, Reply), answer
    return answer


def test_who_objects_is_kept_until_the_manifest_says_otherwise(tmp_path: Path) -> None:
    assert keep_opted_out(tmp_path, set(), {"a"}) == frozenset()
    assert not (tmp_path / FILE).exists()
    assert keep_opted_out(tmp_path, {"a", "b"}, {"c"}) == {"a", "b"}
    assert keep_opted_out(tmp_path, {"b"}, set()) == frozenset(), "nothing is said of a: he objects still"
    assert read_opted_out(tmp_path).keys() == {"a", "b"}
    assert keep_opted_out(tmp_path, {"b"}, {"a"}) == frozenset()
    assert read_opted_out(tmp_path).keys() == {"b"}


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\xff"])
def test_a_damaged_list_stops_the_site(site_file: Path, content: str) -> None:
    (site_file.parent / "memory").mkdir()
    (site_file.parent / "memory" / FILE).write_text(content)
    with pytest.raises(DataError, match=r"opted_out\.json is damaged"):
        read_opted_out(site_file.parent / "memory")
    assert put(site_file, ask_round()) == Refusal("DATA")


def test_from_the_next_round_on_a_running_worker_does_without_him(
    site_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, before, loaded = someone(site_file), train(site_file), set[str]()
    object_to(site_file, patient)
    load = CaseFolder.load

    def load_watched(self: CaseFolder, index: int) -> object:
        loaded.add(self.records[index].patient_id)
        return load(self, index)

    monkeypatch.setattr(CaseFolder, "load", load_watched)
    after = train(site_file, 2)
    assert after.cases == before.cases - 1 == len(loaded)
    assert patient not in loaded


def test_he_is_counted_no_more(tmp_path: Path) -> None:
    site_file = make_hospital(tmp_path / "north", "hold = false\n[worker]\nfree_disk_gb = 0")
    text = site_file.read_text()
    site_file.write_text(f"share_cohort = true\n{text}")
    hello = Request("hello", study_hash=STUDY.hash())
    counts = [sum(v for k, v in put(site_file, hello).metrics.items() if "csPCa" in k)]  # type: ignore[union-attr]
    object_to(site_file, someone(site_file))
    counts += [sum(v for k, v in put(site_file, hello).metrics.items() if "csPCa" in k)]  # type: ignore[union-attr]
    assert counts == [10, 9]


def test_an_answer_that_was_made_with_him_is_given_no_more(site_file: Path) -> None:
    first = train(site_file)
    object_to(site_file, someone(site_file))
    again = train(site_file)
    assert again.cases == first.cases - 1
    assert hash_tensors(again.tensors) != hash_tensors(first.tensors)
    assert hash_tensors(train(site_file).tensors) == hash_tensors(again.tensors), "and that one is kept"


@pytest.mark.parametrize("removed", [True, False])
def test_who_objects_in_the_middle_of_a_round_is_not_in_its_answer(
    tmp_path: Path, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His case is gone in the next epoch or, where it is still there, the answer is thrown away."""
    study = make_study(FINETUNE)  # of two epochs
    site_file = make_hospital(tmp_path / "north", study=study)
    patient, taken, seen = someone(site_file), Stepper.step, list[int]()

    def step(self: Stepper, count: int, draw: Draw) -> float:
        loss = taken(self, count, draw)
        seen.append(count)
        if len(seen) == 1:
            object_to(site_file, patient, removed)
        return loss

    monkeypatch.setattr(Stepper, "step", step)
    answer = put(site_file, ask(study), study)
    assert isinstance(answer, Reply)
    assert answer.cases == 8
    assert len(seen) > 4, "it was begun anew"


def test_a_round_in_the_making_is_begun_anew(site_file: Path) -> None:
    patient = someone(site_file)
    site_file.write_text(f"checkpoint_minutes = 1e-9\n{site_file.read_text()}")
    open_workplace.cache_clear()
    with watching(stop_at=2):
        assert put(site_file, ask_round()) == Refusal("STORAGE")
    partial = list(site_file.parent.glob("memory/run/stage-1/partial-*"))
    assert partial
    object_to(site_file, patient)
    assert not any(path.exists() for path in partial)
    with watching() as steps:
        assert train(site_file).cases == 8
    assert len(steps) == 2, "from its first step on"


def test_predictions_of_him_are_removed_and_others_stay(site_file: Path) -> None:
    path = site_file.parent / "memory" / "run" / "stage-1" / "predictions-validation.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"patient_id": name, "score": 0.5}) + "\n" for name in ("a", "b", "a")))
    keep_opted_out(site_file.parent / "memory", {"a"}, set())
    assert [json.loads(line)["patient_id"] for line in path.read_text().splitlines()] == ["b"]


def test_what_he_contributed_to_is_said(tmp_path: Path) -> None:
    begin(tmp_path, Use("ab" * 32, "demo", 1, 2, "digest", {}), ["b", "c"], Limit(0.0, 1e-5))
    part = {"study": "ab" * 32, "run": "demo", "stage": 1, "rounds": [2], "left": [], "evaluated": []}
    told = describe_withdrawn(tmp_path, {"b", "a"})
    assert told == [{"patient": "a", "contributed": []}, {"patient": "b", "contributed": [part]}]
