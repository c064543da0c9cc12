"""A person of the hospital reads what a study does, and decides; as typed."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.commands import approval as commands
from prostafed.client.gate.approval import require_approval
from prostafed.client.gate.approval_file import read_approval
from prostafed.client.gate.outbox import Entry, read_outbox
from prostafed.client.gate.waiting import file_request, list_waiting
from prostafed.client.rounds.answer import answer
from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.errors import ApprovalError, ApprovalOverError, HeldError, InitialError
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.shell.keys import create_node_key, say_fingerprint
from prostafed.common.study import Study, read_study
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import select_groups
from tests import programs
from tests.client.gate.approved import SERVER, day
from tests.client.tiny_site import GRID, SEQUENCES, ask, initial, write_site
from tests.programs import Done

STUDY = """
name = "tiny"
[data]
size = [4, 16, 16]
spacing_mm = [3.0, 1.0, 1.0]
validation_fraction = 0.1
test_fraction = 0.1
[model]
width = 4
resolutions = 2
[[stage]]
kind = "pretrain"
method = "conditional"
rounds = 2
batch_size = 5
[[stage]]
kind = "finetune"
task = "classify"
rounds = 3
epochs = 2
batch_size = 5
"""
Call = Callable[..., Done]


@pytest.fixture
def call() -> Call:
    return partial(programs.call, "prostafed-site")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site of ten cases with a key, in the working folder, and a study beside it."""
    file = write_site(tmp_path / "north", SERVER)
    create_node_key(tmp_path / "north" / "north.key", "north")
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path / "north")
    return file


@pytest.fixture
def study(site: Path) -> Study:
    return read_study(Path("../study.toml"))


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    terminal = StringIO(text)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)


def write_initial(study: Study, path: Path, shift: float, left_out: tuple[str, ...] = ()) -> str:
    """Write a model to start from and return its SHA-256."""
    encoder = select_groups(initial(study), ["encoder"])
    moved = {name: array + np.float32(shift) for name, array in encoder.items() if name not in left_out}
    save_checkpoint(path, moved, {"split": describe_split(study), "left_out": json.dumps(left_out)})
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestApprove:
    def test_it_says_what_the_study_does_and_then_asks(self, call, site, study, monkeypatch):
        type_in(monkeypatch, "y\n")
        done = call("approve", "../study.toml")
        assert done.code == 0, done.err
        for said in (
            "10 of the 10 indexed cases, of 10 patients",
            "Stage 1, 2 rounds of 1 pass over the cases: it learns from images and from the PI-RADS scores of reports",
            "it learns from images and csPCa yes/no per case",
            "the weights of the encoder, the projection head",
            "No noise is added to what leaves. So no bound (epsilon) can be given",
            "Nothing of who the patients are (share_cohort is off)",
            "on this machine (cpu)",
            f"Until {day(90)}, for 8 rounds of training at most",
            "All goes to the coordinator, fl.example.org:8000",
        ):
            assert said in " ".join(done.out.split()), said
        assert "Do you approve this study? [y/N]" in done.err
        require_approval(site, study, ask(study))
        kept = read_approval(site, study.hash())
        assert kept
        assert done.out.startswith(kept.statement)

    @pytest.mark.parametrize("answer", ["n\n", "\n", ""])
    def test_nothing_but_a_yes_approves(self, call, site, study, monkeypatch, answer):
        type_in(monkeypatch, answer)
        assert call("approve", "../study.toml").code == 1
        assert not Path("approvals").exists()
        assert not Path("audit.jsonl").exists()

    def test_without_a_terminal_it_needs_yes(self, call, site):
        done = call("approve", "../study.toml")
        assert (done.code, done.out) == (2, "")
        assert "Add --yes" in done.err

    def test_json_is_one_object(self, call, site, study):
        told = call("approve", "../study.toml", "--yes", "--json").json
        assert (told["approved"], told["study"], told["rounds"]) == (True, study.hash(), 8)
        assert [(cost["cases"], cost["steps"]) for cost in told["stages"]] == [(9, 2), (9, 4)]
        assert told["statement"].startswith("The study tiny")

    def test_its_end_and_its_rounds_can_be_chosen(self, call, site, study):
        done = call("approve", "../study.toml", "--yes", "--until", day(3), "--rounds", "1")
        assert "It will be stopped before its end" in done.out
        assert f"Until {day(3)}, for 1 round of training at most" in done.out
        require_approval(site, study, ask(study))
        with pytest.raises(ApprovalOverError):
            require_approval(site, study, ask(study, 2))

    def test_a_day_that_is_over_is_refused(self, call, site):
        done = call("approve", "../study.toml", "--yes", "--until", day(-1))
        assert done.code == 2
        assert "Name a later day" in done.err

    def test_a_study_that_waits_is_approved_by_its_hash_or_name(self, call, site, study):
        for named in (study.hash()[:12], "tiny"):
            file_request(site.parent, study, "fl.example.org:8000")
            assert call("approve", named, "--yes").code == 0
            assert not list_waiting(site.parent)
        assert "The study was approved at" in call("approve", "tiny", "--yes").err
        audit = call("audit", "--json").json
        assert [line["event"] for line in audit["lines"]] == ["request", "approved", "request", "approved", "approved"]

    def test_a_masked_study_is_approved_with_the_hospitals_it_names(self, call, site, study):
        Path("../study.toml").write_text(STUDY + "[privacy]\nsecure_aggregation = true\n")
        masked = read_study(Path("../study.toml"))
        unknown = call("approve", "../study.toml", "--yes")
        assert unknown.code == 2
        assert "The coordinator tells the hospitals and their keys once it asks" in unknown.err
        key = create_node_key(Path("south.key"), "south").read_text().rsplit(" ", 1)[0]
        file_request(site.parent, masked, "fl.example.org:8000", {"south": key})
        told = call("approve", "tiny", "--yes")
        assert told.code == 0, told.err
        assert "With whom updates are masked" in told.out
        assert f"south: {say_fingerprint(key)}" in told.out
        approval = read_approval(site, masked.hash())
        assert approval
        assert approval.peers == {"south": key}
        assert call("approve", "../study.toml", "--yes").code == 0, "who was approved before is known"

    @pytest.mark.parametrize("named", ["nothing", "tin", "../none.toml", ""])
    def test_a_study_nobody_knows_is_a_sentence(self, call, site, study, named):
        file_request(site.parent, study, "fl.example.org:8000")
        assert call("approve", named, "--yes").code == 2
        assert not Path("approvals").exists()

    def test_a_site_whose_cases_do_not_fit_is_told(self, call, site):
        Path("../study.toml").write_text(STUDY.replace("[4, 16, 16]", "[4, 32, 32]"))
        done = call("approve", "../study.toml", "--yes")
        assert done.code == 1
        assert "the study wants 4x32x32 voxels" in done.err
        assert "nothing was approved" in done.err
        Path("../study.toml").write_text(STUDY.replace("classify", "lesion"))
        assert "no case to train on in this stage" in call("approve", "../study.toml", "--yes").err
        assert not Path("approvals").exists()

    def test_cases_that_are_left_out_are_counted_with_their_reason(self, call, site):
        image = np.ones((3, *GRID.size), np.float16)
        for number, has in enumerate([("t2w",), ("t2w", "hbv"), ("t2w", "hbv")]):
            record = CaseRecord(f"x{number}", f"x{number}", sequences=dict.fromkeys(has, "acquired"))
            masks = np.zeros((3, *GRID.size), np.uint8)
            write_case(site.parent / "cases", record, image, masks, GRID, SEQUENCES)
        said = call("approve", "../study.toml", "--yes").out
        assert "10 of the 13 indexed cases" in said
        assert "Left out: 2, without adc." in said
        assert "Left out: 1, without adc and hbv." in said

    def test_what_a_site_tells_of_its_patients_is_said(self, call, site):
        site.write_text("share_cohort = true\n" + site.read_text())
        said = " ".join(call("approve", "../study.toml", "--yes").out.split())
        assert "At the start of a run: patients by csPCa" in said
        assert "share_cohort is off" not in said

    def test_a_user_without_a_name_has_a_number(self, call, site, study, monkeypatch):
        monkeypatch.setattr("getpass.getuser", lambda: {}["nobody"])
        assert call("approve", "../study.toml", "--yes").code == 0
        kept = read_approval(site, study.hash())
        assert kept
        assert kept.by == f"user {os.getuid()}"

    def test_without_a_key_nothing_is_measured(self, call, site, monkeypatch):
        monkeypatch.setattr(commands, "_gather", lambda *_: pytest.fail("measured"))
        site.write_text(site.read_text().partition("[server]")[0])
        done = call("approve", "../study.toml", "--yes")
        assert done.code == 2
        assert "the table [server] is missing" in done.err


class TestInitial:
    @pytest.fixture
    def started(self, site: Path, study: Study) -> Study:
        """A study that starts from the file start.safetensors."""
        digest = write_initial(study, Path("start.safetensors"), shift=1.0)
        return self.pin(digest)

    @staticmethod
    def pin(digest: str) -> Study:
        text = STUDY.replace("[[stage]]", f'[initial]\nweights = "checkpoint"\nsha256 = "{digest}"\n[[stage]]', 1)
        Path("../study.toml").write_text(text)
        return read_study(Path("../study.toml"))

    def test_the_file_is_needed(self, call, started):
        done = call("approve", "../study.toml", "--yes")
        assert done.code == 2
        assert "Ask the coordinator for it, and name it with --initial FILE" in done.err
        write_initial(started, Path("other.safetensors"), shift=2.0)
        assert call("approve", "../study.toml", "--yes", "--initial", "other.safetensors").code == 2
        assert not Path("approvals").exists()

    def test_training_begins_with_its_weights_or_not_at_all(self, call, site, started):
        assert call("approve", "../study.toml", "--yes", "--initial", "start.safetensors").code == 0
        drawn = initial(started)
        with pytest.raises(InitialError):
            require_approval(site, started, ask(started))
        moved = {name: array + np.float32(name.startswith("encoder.")) for name, array in drawn.items()}
        require_approval(site, started, ask(started, tensors=moved))

    def test_what_the_file_does_not_hold_may_be_as_drawn(self, call, site, study):
        lacking = next(iter(select_groups(initial(study), ["encoder"])))
        started = self.pin(write_initial(study, Path("start.safetensors"), 1.0, (lacking,)))
        assert call("approve", "../study.toml", "--yes", "--initial", "start.safetensors").code == 0
        moved = {
            name: array + np.float32(name.startswith("encoder.") and name != lacking)
            for name, array in initial(started).items()
        }
        require_approval(site, started, ask(started, tensors=moved))


class TestRequestsAndWithdraw:
    def test_nothing_yet(self, call, site):
        done = call("requests")
        assert done.out == "No study waits for approval.\nNo study was approved.\n"
        assert call("audit").out == "0 lines, none changed or taken out.\n"
        assert call("withdraw", "tiny").code == 2

    def test_what_waits_and_what_was_approved(self, call, site, study):
        for _ in range(3):
            with pytest.raises(ApprovalError):
                require_approval(site, study, ask(study))
        said = call("requests").out
        assert f"tiny  {study.hash()[:12]}  asked 3 times" in said
        assert f"by fl.example.org:8000. Look at it: prostafed-site approve {study.hash()[:12]}" in said
        call("approve", "tiny", "--yes")
        require_approval(site, study, ask(study))
        told = call("requests", "--json").json
        assert told["waiting"] == []
        (line,) = told["approved"]
        assert (line["name"], line["used"], line["rounds"], line["problem"]) == ("tiny", 1, 8, "")
        assert f"holds until {day(90)}, 1 of 8 rounds are used" in call("requests").out

    def test_what_is_withdrawn_is_refused(self, call, site, study):
        call("approve", "../study.toml", "--yes")
        assert call("withdraw", study.hash()[:8]).code == 0
        with pytest.raises(ApprovalOverError):
            require_approval(site, study, ask(study))
        assert "was withdrawn at" in call("requests").out
        again = call("withdraw", "tiny")
        assert again.code == 2
        assert "withdrawn already" in again.err

    def test_a_damaged_approval_is_shown_and_can_be_replaced(self, call, site, study):
        call("approve", "../study.toml", "--yes")
        path = Path("approvals") / f"{study.hash()}.json"
        path.write_text(path.read_text().replace('"rounds": 8', '"rounds": 9'))
        assert "is none of this site" in call("requests").out
        assert call("withdraw", study.hash()).code == 1
        assert len(call("audit", "--json").json["lines"]) == 1, "to look at it is no event"
        assert call("approve", "../study.toml", "--yes").code == 0
        require_approval(site, study, ask(study))


class TestAudit:
    def test_it_shows_the_last_lines_and_whether_the_chain_holds(self, call, site, study):
        call("approve", "../study.toml", "--yes")
        call("withdraw", "tiny")
        said = call("audit", "--last", "1").out
        assert "withdrawn" in said
        assert "approved" not in said
        assert said.endswith("2 lines, none changed or taken out.\n")
        assert len(call("audit", "--last", "0", "--json").json["lines"]) == 2

    def test_a_changed_line_is_1(self, call, site):
        call("approve", "../study.toml", "--yes")
        call("withdraw", "tiny")
        path = Path("audit.jsonl")
        path.write_text(path.read_text().replace("approved", "refused\\u001b[2J", 1))
        done = call("audit")
        assert done.code == 1
        assert "line 2 does not follow from the line before it" in done.out
        assert "\x1b" not in done.out
        assert call("audit", "--json").json["holds"] is False

    def test_verify_says_where_it_was_changed_and_with_the_head_what_was_cut_off(self, call, site):
        assert call("audit", "head").code == 1, "there is none"
        call("approve", "../study.toml", "--yes")
        head = call("audit", "head").out.strip()
        assert head.startswith("1:")
        assert call("audit", "head", "--json").json["digest"] == head.partition(":")[2]
        call("withdraw", "tiny")
        assert "2 lines in 1 file, 0 in the outbox: none changed" in call("audit", "verify").out
        assert call("audit", "verify", "--expect", head).code == 0
        assert call("audit", "verify", "--site", site, "--json").json["files"] == ["audit.jsonl"]
        last = call("audit", "head").out.strip()
        path = Path("audit.jsonl")
        path.write_text(path.read_text().splitlines(keepends=True)[0])
        assert call("audit", "verify").code == 0
        done = call("audit", "verify", "--expect", last)
        assert (done.code, done.out) == (1, "Expected a line 2, found 1 lines: the last ones were cut off.\n")
        path.write_text(path.read_text().replace("approved", "withdraws"))
        assert call("audit", "verify", "--expect", head).code == 1
        assert call("audit", "verify", "--expect", "7").code == 2
        assert call("audit", "--site", site, "verify").code == 2, "it would be asked of another site"


class TestLeaving:
    def test_a_person_looks_at_an_update_and_lets_it_leave(self, call, site, study):
        (waiting,) = self.hold(site, 1)
        said = call("outbox").out
        assert "waiting  train run 1.1" in said
        assert "Waiting for you: 1." in said
        assert "1 update waits for you: 1." in call("status").out
        shown = call("outbox", "show", "1").out
        assert f"sha256 {waiting.line['sha256']}" in shown
        assert "encoder." in shown
        assert "norm" in shown
        assert "train/loss = " in shown
        assert call("outbox", "show", "1", "--json").json["figures"].keys() >= {"train/loss"}
        assert call("outbox", "release", "1").code == 0
        assert call("outbox", "--json").json["answers"][0]["state"] == "released"
        assert call("outbox", "release", "1").code == 2

    def test_or_declines_it_for_a_reason_that_stays_here(self, call, site):
        self.hold(site, 1)
        assert call("outbox", "decline", "1", "--reason", "under review", "--json").json["state"] == "declined"
        assert "declined by" in call("outbox").out
        assert call("audit", "--json").json["lines"][-1]["reason"] == "under review"
        assert call("outbox", "show", "7").code == 2

    def test_what_is_not_kept_any_more_is_said(self, call, site):
        self.hold(site, 1)
        next(site.parent.glob("memory/run/stage-1/answer-*")).unlink()
        done = call("outbox", "show", "1")
        assert done.code == 2
        assert "not kept here any more" in done.err

    def hold(self, site: Path, number: int) -> list[Entry]:
        study = read_study(Path("../study.toml"))
        site.write_text(site.read_text() + "[privacy]\nhold = true\nminimum_cohort = 1\n")
        site.write_text(site.read_text().replace("privacy.minimum_cohort = 1\n", ""))
        with pytest.raises(HeldError):
            answer(open_workplace(site, study.canonical(), 77), ask(study, number))
        return read_outbox(site.parent)

    def test_before_it_is_approved_it_is_said_that_a_stage_will_be_declined(self, call, site):
        site.write_text(site.read_text().replace("minimum_cohort = 1", "minimum_cohort = 9"))
        done = call("approve", "../study.toml", "--yes")
        said = " ".join(done.out.split())
        assert "Stage 1 trains on 9 cases of 9 patients." in said
        assert "will decline" not in said
        site.write_text(site.read_text().replace("minimum_cohort = 9", "minimum_cohort = 11"))
        open_workplace.cache_clear()
        said = " ".join(call("approve", "../study.toml", "--yes").out.split())
        assert "This site will decline stage 1. Expected at least 11 training patients" in said
        (cases,) = [each for each in call("status", "--json").json["conditions"] if each["name"] == "cases"]
        assert not cases["ok"]
        assert "Every stage of it is declined." in cases["text"]
        (found,) = [each for each in call("check", "--json").json["results"] if "patients are few" in each["text"]]
        assert "minimum_cohort of the site file, found 10" in found["fix"]

    def test_a_changed_outbox_shows(self, call, site):
        self.hold(site, 1)
        assert call("audit", "verify").code == 0
        path = Path("outbox.jsonl")
        path.write_text(path.read_text().replace('"bytes": ', '"bytes": 1') * 2)
        done = call("audit", "verify", "--json")
        assert done.code == 1
        assert "line 2 does not follow" in done.json["wrong"]
        assert "nothing leaves" in call("status").out
        assert call("outbox").code == 1

    def test_an_empty_outbox_is_said(self, call, site):
        assert call("outbox").out == "0 answers. None waits.\n"

    def test_halt_and_go_on(self, call, site, monkeypatch):
        assert call("halt", "--reason", "A theft.").code == 0
        assert "A theft. Nothing leaves this site." in call("status").out
        assert call("go-on").code == 2, "nobody is there to answer"
        type_in(monkeypatch, "n\n")
        done = call("go-on")
        assert done.code == 1
        assert "A theft." in done.err
        type_in(monkeypatch, "y\n")
        assert call("go-on").code == 0
        assert "Nothing leaves" not in call("status").out
        assert call("go-on", "--yes").code == 2, "it is not halted"
        assert call("halt", "--json").json["halted"] is True
        assert call("go-on", "--yes", "--json").json["halted"] is False
        assert call("halt", "--site", "nowhere/site.toml").code == 2


def test_listing_loads_nothing_heavy(site: Path, study: Study) -> None:
    file_request(site.parent, study, "fl.example.org:8000")
    calls = "approve --help", "requests", "audit", "audit verify", "outbox", "halt", "go-on --yes"
    for words in calls:
        text = (
            "import sys\nfrom prostafed.client.cli import main\n"
            f"sys.argv = ['prostafed-site', *{words.split()!r}]\n"
            "try:\n    main()\nfinally:\n"
            "    print([n for n in ('torch', 'SimpleITK', 'flwr', 'monai') if n in sys.modules], file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "[]", words
