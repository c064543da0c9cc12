"""A hospital's dossier, from files as its programs write them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from prostafed.client.cli import app
from prostafed.client.dossier.answers import make_dossier
from prostafed.client.gate.approval_file import FOLDER
from prostafed.client.gate.audit import record
from prostafed.client.gate.ledger import COHORTS, Limit, Use, begin, evaluate
from prostafed.client.gate.ledger import leave as leave_round
from prostafed.common.dossier.record import Dossier
from prostafed.common.errors import ConfigurationError
from prostafed.common.privacy.accounting import account
from prostafed.common.privacy.plan import plan_patients, repeat
from prostafed.common.shell.chained_file import add_line
from prostafed.common.study import Study
from tests.client.gate.approved import SERVER, approve
from tests.client.tiny_site import FINETUNE, make_study, write_site

ROOT = Path(__file__).resolve().parents[3]
RUN = "tiny-1"


@pytest.fixture
def study() -> Study:
    return make_study(FINETUNE)


@pytest.fixture
def site_file(tmp_path: Path, study: Study) -> Path:
    """A site that approved a study, answered twice and refused once."""
    from prostafed.common.shell.keys import create_node_key

    path = write_site(tmp_path / "north", f"minimum_cell = 5\n{SERVER}")
    create_node_key(path.parent / "north.key", "north")
    approve(path, study)
    about = {"run": RUN, "study": study.hash(), "stage": 1}
    record(path.parent, "answered", action="train", **about, round=1, cases=8, tensors=2, bytes=4000, metrics=1)
    record(path.parent, "refused", action="train", **about, round=2, code="RESTING")
    return path


def leave(site_file: Path, study: Study, **facts: Any) -> None:
    """Enter a line in the outbox."""
    line = {
        "event": "left",
        "kind": "train",
        "run": RUN,
        "study": study.hash(),
        "stage": 1,
        "round": 1,
        "cases": 8,
        "bytes": 4000,
        "tensors": 2,
        "groups": ["encoder"],
        "metrics": ["train/loss"],
        **facts,
    }
    add_line(site_file.parent / "outbox.jsonl", line)


def say(dossier: Dossier, question: str) -> dict[str, str]:
    return {fact.label: fact.said for fact in dossier.facts if fact.question == question}


def test_who_approved_is_told_with_the_signature_checked(site_file: Path) -> None:
    said = say(make_dossier(site_file, RUN), "approval")
    assert said["Approved by"] == "jane, 2026-01-01 00:00 UTC"
    assert said["Signature"].startswith("verified")
    assert said["Used"] == "0 of 2 rounds"


def test_an_approval_that_was_changed_is_none(site_file: Path, study: Study) -> None:
    path = site_file.parent / FOLDER / f"{study.hash()}.json"
    path.write_text(path.read_text().replace("jane", "john"))
    dossier = make_dossier(site_file, RUN)
    assert "was changed" in say(dossier, "approval")["Approval"]
    assert "john" not in json.dumps(dossier.as_json())
    assert str(site_file.parent) not in json.dumps(dossier.as_json())


def test_what_left_is_added_up(site_file: Path, study: Study) -> None:
    leave(site_file, study)
    leave(site_file, study, round=2, metrics=["train/withheld/loss"])
    leave(site_file, study, kind="evaluate", bytes=0, tensors=0, groups=[], metrics=["test/auroc", "test/auroc_low"])
    leave(site_file, study, run="another", bytes=10**9)
    leave(site_file, study, event="held", round=3)
    add_line(site_file.parent / "outbox.jsonl", {"event": "declined", "of": 5, "by": "jane", "reason": "because"})
    dossier = make_dossier(site_file, RUN)
    said = say(dossier, "left")
    assert said["Answers"] == "1 to evaluate, 2 to train"
    assert said["Weights"] == "8.0 kB in 4 tensors"
    assert said["Parts of the network"] == "encoder"
    assert said["Metrics, by name"] == "test: auroc; train: loss, withheld/loss"
    assert said["Number of training cases told"] == "8"
    assert said["Updates that waited for a person"] == "1 held, 0 released, 1 declined"
    assert say(dossier, "cells")["Withheld in this run"] == "train/withheld/loss 1 times"
    assert "because" not in json.dumps(dossier.as_json())  # why a person declined stays in the outbox


def test_without_an_outbox_the_audit_answers_as_far_as_it_can(site_file: Path) -> None:
    said = say(make_dossier(site_file, RUN), "left")
    assert said["Answers"] == "1 answers, 4.0 kB of weights"
    assert said["Names of tensors and metrics"] == "not known"


def test_refusals_are_counted_by_code(site_file: Path) -> None:
    assert say(make_dossier(site_file, RUN), "refused")["Refusals, by code"] == "RESTING 1"


def test_no_noise_is_no_bound(site_file: Path) -> None:
    said = say(make_dossier(site_file, RUN), "noise")
    assert said["Epsilon accounted"] == "no bound: the weights left without noise"
    assert said["Epsilon audited, a lower bound"] == "not known"


PLAN = plan_patients(60, 20, 1, (2.0, 1.0, 1e-5))
PEOPLE = [f"p{number:02}" for number in range(60)]


def use_patients(site_file: Path, study: Study, audited: float | None = None) -> None:
    """Two rounds with noise, the second without three patients, an evaluation, and a round of another run."""
    use = Use(study.hash(), RUN, 1, 1, "d", {"shared": PLAN})
    for number, patients in ((1, PEOPLE), (2, PEOPLE[3:])):
        begin(site_file.parent, replace(use, round=number), patients, Limit(0.0, 1e-5))
        leave_round(site_file.parent, replace(use, round=number), patients, audited)
    evaluate(site_file.parent, replace(use, plans={}), [*PEOPLE, "q"], ("validation",))
    begin(site_file.parent, replace(use, run="another"), PEOPLE[3:], Limit(0.0, 1e-5))


def test_epsilon_is_told_of_each_cohort_of_the_run_and_over_all(site_file: Path, study: Study) -> None:
    use_patients(site_file, study)
    dossier = make_dossier(site_file, RUN)
    said, one, two, three = say(dossier, "noise"), *(account([repeat(PLAN, many)], 1e-5) for many in (1, 2, 3))
    assert said["Epsilon accounted, 57 patients"] == f"{two:.3g} at delta 1e-05; 2 rounds of training"
    assert said["Epsilon accounted, fewer than 5 patients"] == f"{one:.3g} at delta 1e-05; 1 round of training"
    assert said["Over all studies here, 57 patients"] == f"{three:.3g} at delta 1e-05; 3 rounds of training"
    assert said["Epsilon audited, a lower bound"] == "not audited: no canaries were planted"
    assert say(dossier, "patients")["Trained on in this run"] == "60 patients at most in a round"
    assert not [name for name in PEOPLE if name in json.dumps(dossier.as_json())]


def test_a_round_without_noise_has_no_bound(site_file: Path, study: Study) -> None:
    begin(site_file.parent, Use(study.hash(), RUN, 1, 1, "d", {}), PEOPLE, Limit(0.0, 1e-5))
    said = say(make_dossier(site_file, RUN), "noise")
    assert said["Epsilon accounted, 60 patients"].startswith("no bound: the weights left without noise")


def test_what_canaries_show_is_beside_it(site_file: Path, study: Study) -> None:
    use_patients(site_file, study, audited=0.25)
    said, two = say(make_dossier(site_file, RUN), "noise"), account([repeat(PLAN, 2)], 1e-5)
    assert said["Epsilon audited, a lower bound"] == f"canaries show 0.25 at least, accounted are {two:.3g}"
    leave_round(site_file.parent, Use(study.hash(), "another", 1, 1, "d", {"shared": PLAN}), PEOPLE[3:], 99.0)
    assert "BROKEN" in say(make_dossier(site_file, "another"), "noise")["Epsilon audited, a lower bound"]
    assert "BROKEN" not in say(make_dossier(site_file, RUN), "noise")["Epsilon audited, a lower bound"]


def test_a_ledger_whose_cohort_was_changed_tells_no_epsilon(site_file: Path, study: Study) -> None:
    use_patients(site_file, study)
    next((site_file.parent / COHORTS).iterdir()).write_text("[]")
    dossier = make_dossier(site_file, RUN)
    assert say(dossier, "records")["Ledger"].startswith("broken")
    labels = say(dossier, "noise").keys()
    assert not [label for label in labels if label.startswith(("Epsilon accounted, ", "Over all"))]
    assert say(dossier, "noise")["Epsilon audited, a lower bound"] == "not known"


def test_what_who_objects_contributed_to_is_counted(site_file: Path, study: Study) -> None:
    use_patients(site_file, study)
    memory = site_file.parent / "memory"
    memory.mkdir()
    (memory / "opted_out.json").write_text(json.dumps({"p00": "2026-11-27T00:00:00+00:00"}))
    said = say(make_dossier(site_file, RUN), "patients")["What they contributed to before"]
    assert said.startswith("1 study; stages of this run trained on them: 1.")
    assert "p00" not in said


def test_masks_are_counted_by_round(site_file: Path, study: Study) -> None:
    for number, kind in ((1, "shares"), (1, "train"), (2, "train"), (3, "shares")):
        leave(site_file, study, round=number, kind=kind)
    said = say(make_dossier(site_file, RUN), "masks")
    assert said["Updates that left after masks were agreed on"] == "1 of 2 rounds"
    assert said["The study asks for"].startswith("no masks")


def test_a_broken_chain_is_told(site_file: Path, study: Study) -> None:
    leave(site_file, study)
    leave(site_file, study, round=2)
    outbox = site_file.parent / "outbox.jsonl"
    outbox.write_text(outbox.read_text().replace("4000", "4001", 1))
    audit = site_file.parent / "audit.jsonl"
    audit.write_text(audit.read_text().replace("RESTING", "NOTHING").replace('"cases": 8', '"cases": 9'))
    said = say(make_dossier(site_file, RUN), "records")
    assert said["Outbox"].startswith("broken")
    assert said["Audit"].startswith("broken")
    assert said["Ledger"] == "not known"


def test_every_test_that_is_named_exists(site_file: Path, study: Study) -> None:
    leave(site_file, study)
    facts = make_dossier(site_file, RUN).facts
    assert not [fact for fact in facts if fact.source == "the program" and not fact.test]
    assert not [fact for fact in facts if fact.value is not None and not fact.source]
    named = {fact.test for fact in facts if fact.test}
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_no_patient_and_no_path_is_in_it(site_file: Path, study: Study) -> None:
    leave(site_file, study)
    written = json.dumps(make_dossier(site_file, RUN).as_json())
    assert "case0" not in written
    assert str(site_file.parent) not in written


def test_who_objects_is_counted_and_not_named(site_file: Path) -> None:
    assert say(make_dossier(site_file, RUN), "patients")["Patients who object, kept by the site"] == "not known"
    memory = site_file.parent / "memory"
    memory.mkdir()
    (memory / "opted_out.json").write_text(json.dumps({"case0": "2026-11-27T00:00:00+00:00"}))
    dossier = make_dossier(site_file, RUN)
    assert say(dossier, "patients")["Patients who object, kept by the site"] == "1"
    assert "case0" not in json.dumps(dossier.as_json())


def test_an_unknown_run_names_the_known_ones(site_file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"knows the run 'second'. Known are: tiny-1\."):
        make_dossier(site_file, "second")
    with pytest.raises(ConfigurationError, match="knows the run"):
        make_dossier(site_file, "..")


def test_the_command_writes_page_and_json(site_file: Path) -> None:
    called = CliRunner().invoke(app, ["dossier", RUN, "--site", str(site_file), "--json"])
    assert called.exit_code == 0, called.output
    told = json.loads(called.stdout)
    assert Path(told["page"]) == site_file.parent / "dossiers" / f"{RUN}.html"
    assert json.loads(Path(told["page"]).with_suffix(".json").read_text())["run"] == RUN
    assert told["generated"] is False


def test_a_run_that_only_the_memory_knows_is_mostly_not_known(tmp_path: Path, study: Study) -> None:
    from prostafed.common.models.checkpoint import save_checkpoint

    path = write_site(tmp_path / "south")
    folder = path.parent / "memory" / RUN / "stage-1"
    folder.mkdir(parents=True)
    save_checkpoint(folder / "round-00001.safetensors", {"a": np.zeros(3)}, {"study_hash": study.hash()})
    dossier = make_dossier(path, RUN)
    assert dossier.study_hash == study.hash()
    assert say(dossier, "approval") == {"Approval": "not known"}
    assert say(dossier, "retention")["Memory of the run"].startswith("1 files")
