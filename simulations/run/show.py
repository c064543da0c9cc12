"""Progress of a simulation on stderr: bars at a terminal, a line per round elsewhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prostafed.common.shell.progress import Event, RoundDone, Said, Step, mean_loss, say_loss
from prostafed.common.study import Study
from prostafed.server.records.lines import RoundLine
from prostafed.simulations.run.arms import ArmRun
from prostafed.simulations.run.simulation import Watchers


@contextmanager
def showing(study: Study) -> Iterator[Watchers]:
    """Yield watchers that show site, stage, round, loss and time left."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        view = _View(study, console, bars)
        yield Watchers(view.show_case, view.show_plan, view.show_arm, view.show_event, view.show_round)


class _View:
    """Turns what is told into bars and lines. One unit of the bar is one hospital's round."""

    def __init__(self, study: Study, console: Console, bars: Progress) -> None:
        self._study, self._console, self._bars = study, console, bars
        self._cases = bars.add_task("Preparing cases", total=None)
        self._rounds = bars.add_task("Waiting", total=None, visible=False)
        self._done = 0.0
        self._arm: ArmRun

    def show_case(self, site: str, done: int, count: int) -> None:
        self._bars.update(
            self._cases, description=f"Preparing cases: {site} {done}", completed=done, total=count or None
        )
        if not self._console.is_terminal and (done == count or done % 50 == 0):
            self._console.print(f"Prepared {done} cases of {site}")

    def show_plan(self, arms: Sequence[ArmRun]) -> None:
        rounds = sum(stage.rounds for stage in self._study.stage)
        self._bars.update(self._cases, visible=False)
        self._bars.update(self._rounds, total=rounds * sum(arm.weight for arm in arms), visible=True)

    def show_arm(self, arm: ArmRun) -> None:
        self._arm = arm

    def show_event(self, event: Event) -> None:
        match event:
            case Step():
                part = self._done + self._arm.weight / len(self._arm.site_files) * event.step / event.steps
                self._bars.update(
                    self._rounds,
                    completed=part,
                    description=self._describe(event.stage, event.round, event.loss, event.site),
                )
                if event.step == event.steps:
                    self._done = part
            case RoundDone():
                self._print_round(event.stage, event.round, event.loss, event.seconds)
            case Said():
                self._console.print(f"[red]{event.site}[/red]: {event.text}", highlight=False)

    def show_round(self, row: RoundLine) -> None:
        """A round record seen from outside, where the sites' steps are not."""
        loss = mean_loss(row.metrics.values())
        self._done += self._arm.weight
        self._bars.update(
            self._rounds, completed=self._done, description=self._describe(row.stage, row.round, loss, "")
        )
        self._print_round(row.stage, row.round, loss, row.seconds)
        for site in row.diverged:
            self.show_event(Said(site, f"its training loss has diverged: {row.metrics[site]['loss']:.3g}"))

    def _describe(self, stage: int, round_number: int, loss: float, site: str) -> str:
        section = self._study.stage[stage - 1]
        where = " ".join(filter(None, [self._arm.arm, site]))
        return f"{where} · {section.kind} round {round_number}/{section.rounds} · loss {say_loss(loss)}"

    def _print_round(self, stage: int, round_number: int, loss: float, seconds: float) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{self._describe(stage, round_number, loss, '')} · {seconds:.1f} s", highlight=False)
