"""A run, open: its sites, its folder and what that holds so far."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prostafed.common.exchange.messages import Request
from prostafed.common.shell.progress import Said, tell
from prostafed.common.study import Study
from prostafed.common.tensors import hash_tensors
from prostafed.server.exchange.exchange import IMPOSTORS, Exchange, OnReply
from prostafed.server.records.ledger import Entry, Ledger
from prostafed.server.records.lines import EvaluationLine, ExchangeLine, MetricLine, RoundLine
from prostafed.server.records.write import (
    open_run,
    read_records,
    write_all_patients,
    write_cohorts,
    write_evaluations,
    write_metrics,
    write_rounds,
)
from prostafed.server.run.all_patients import pool
from prostafed.server.run.checkpoints import read_run_state, write_run_state
from prostafed.server.run.metric_rows import of_split, rows_of_evaluations
from prostafed.server.run.trackers import Trackers


class Sites(Protocol):
    """The sites of a run: a `Roster` over a grid, or a test's."""

    @property
    def cohorts(self) -> dict[str, dict[str, float]]:
        """What sites chose to tell of their patients: site -> "attribute/value" -> cases."""

    @property
    def refused(self) -> dict[str, str]:
        """Who is connected and cannot take part, and why."""

    @property
    def enrolled(self) -> Mapping[str, str]:
        """The hospitals that may take part and their public keys, OpenSSH lines; none in a simulation."""

    def present(self) -> list[str]:
        """Return the names of the sites that are there now, sorted."""

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, close_after: int = 0) -> Exchange:
        """Ask some of them; each admitted reply goes to `on_reply` as it arrives."""


class OpenRun:
    """A run of `study` into `folder`, begun or taken up where it stands."""

    def __init__(self, study: Study, name: str, sites: Sites, folder: Path) -> None:
        """Raise CheckpointError where `folder` holds another study's run or a damaged one."""
        open_run(folder, study)
        self.study, self.name, self.sites, self.folder = study, name, sites, folder
        self.ledger = Ledger(folder, study.hash())
        self.state = read_run_state(folder, study.hash(), self.ledger.length)
        self.rounds, self.trained, self.evaluations = read_records(folder, self.state.stage, self.state.round)
        self.there = sites.present()
        self.trackers = Trackers(folder, name, study)
        write_cohorts(folder, sites.cohorts)
        stage, number, tensors = self.state.stage, self.state.round, self.state.tensors
        model = hash_tensors(tensors) if tensors else ""
        aggregated = Entry("round", stage, number, model=model)
        event = "resumed" if self.ledger.length else "started"
        if number and not self.ledger.holds(aggregated):  # killed after the checkpoint, before this line
            self.ledger.add(aggregated)
        self.ledger.add(Entry(event, stage, number, text=f"sites: {', '.join(self.there)}", model=model))
        self.refused: dict[str, str] = {}
        self._note_refusals(stage, number)

    def _note_refusals(self, stage: int, number: int) -> None:
        """Enter in the ledger who is connected and cannot take part, once for each reason."""
        for site, why in sorted(self.sites.refused.items() - self.refused.items()):
            self.ledger.add(Entry("refused", stage, number, site, why))
        self.refused = dict(self.sites.refused)

    def note_arrivals(self, stage: int, number: int) -> None:
        """Ask who is there now, and enter in the ledger who came and who went."""
        before, self.there = set(self.there), self.sites.present()
        for event, moved in (("joined", set(self.there) - before), ("left", before - set(self.there))):
            for site in sorted(moved):
                self.ledger.add(Entry(event, stage, number, site))
                tell(Said(site, event))
        self._note_refusals(stage, number)
        write_cohorts(self.folder, self.sites.cohorts)

    def _note_impostors(self, line: ExchangeLine) -> None:
        """Enter in the ledger who answered under another's name, or in another's place."""
        for entry in line.rejections:
            if entry["code"] in IMPOSTORS:
                self.ledger.add(
                    Entry("refused", line.stage, line.round, entry["site"], f"{entry['code']} ({entry['text']})")
                )

    def add_round(self, record: RoundLine, rows: list[MetricLine]) -> None:
        """Write a round to disk: its records, then, where it counts, the checkpoint that says so, then the ledger."""
        stage, number = record.stage, record.round
        self.rounds.append(record)
        self.trained.extend(rows)
        write_rounds(self.folder, self.rounds)
        self._write_metrics()
        self._note_impostors(record)
        for site in record.reported:
            last = next(entry for entry in record.rejections if entry["site"] == site)
            text = f"rejected {self.state.rejected[site]} times in a row, last {last['code']}: {last['text']}"
            self.ledger.add(Entry("reported", stage, number, site, text))
            tell(Said(site, text))
        if record.aggregated:
            self.trackers.log(record, rows)
            write_run_state(self.folder, self.state, self.study.hash(), self.ledger.length)
            self.ledger.add(Entry("round", stage, number, model=hash_tensors(self.state.tensors)))

    def add_evaluation(self, line: EvaluationLine) -> None:
        """Write an exchange of an evaluation to disk: results first, then the line they are made of, which counts."""
        self.evaluations.append(line)
        self._write_metrics()
        if line.last:
            answers = self.answers(line.stage, line.round)
            tested = {site: of_split(found, "test") for site, found in answers.items()}
            if pooled := pool(tested, line.stage, self.study.seed):
                write_all_patients(self.folder, line.stage, pooled)
        write_evaluations(self.folder, self.evaluations)
        self._note_impostors(line)
        self.trackers.log(line, rows_of_evaluations([line]))

    def lines(self, stage: int, number: int) -> list[EvaluationLine]:
        """Return the exchanges of the evaluation after a round so far."""
        return [line for line in self.evaluations if (line.stage, line.round) == (stage, number)]

    def answers(self, stage: int, number: int) -> dict[str, Mapping[str, float]]:
        """Return what sites answered in the evaluation after a round, by site; metrics named "split/metric"."""
        return {site: found for line in self.lines(stage, number) for site, found in line.metrics.items()}

    def _write_metrics(self) -> None:
        rows = [*self.trained, *rows_of_evaluations(self.evaluations)]  # training before what was evaluated after it
        write_metrics(self.folder, sorted(rows, key=lambda row: (row.stage, row.round, row.split != "train")))
