"""A site of a few small cases, studies for it, and what a server would ask of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.progress import Event, Step, listening
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import Tensors, read_tensors, select_groups

SEQUENCES, GRID = ("t2w", "adc", "hbv"), Grid((3.0, 1.0, 1.0), (4, 16, 16))
FINETUNE = {"kind": "finetune", "task": "classify", "rounds": 3, "epochs": 2, "batch_size": 5}
BYOL = {"kind": "pretrain", "method": "byol", "rounds": 3, "epochs": 2, "batch_size": 5}


Masks = npt.NDArray[np.uint8]
Draw = Callable[[int], tuple[tuple[str, ...], Masks]]  # number of a case -> what is drawn in it, and the masks


def draw_nothing(number: int) -> tuple[tuple[str, ...], Masks]:
    """A case without masks."""
    return (), np.zeros((len(MASKS), *GRID.size), np.uint8)


def draw_masks(number: int) -> tuple[tuple[str, ...], Masks]:
    """A case with gland, both zones and, every second one, a lesion."""
    _, masks = draw_nothing(number)
    gland, zones, lesion = masks
    gland[1:, 2:14, 2:14] = zones[1:, 2:14, 2:14] = 1
    zones[1:, 2:8, 2:14] = 2
    lesion[1:3, 4:8, 4:8] = number % 2
    return MASKS, masks


def write_site(folder: Path, settings: str = "", cases: int = 10, draw: Draw = draw_nothing) -> Path:
    """Write a site called north, every second case with csPCa, and return its site file; unless `settings` say
    otherwise it trains on and tells of however few patients it has.
    """
    (folder / "cases").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(cases):
        name, (drawn, masks) = f"case{number}", draw(number)
        record = CaseRecord(
            name,
            name,
            cspca=bool(number % 2),
            pirads_reads=(2 + number % 4,),
            sequences=dict.fromkeys(SEQUENCES, "acquired"),
            masks=drawn,
        )
        image = rng.normal(size=(3, *GRID.size)).astype(np.float16)
        write_case(folder / "cases", record, image, masks, GRID, SEQUENCES)
    path = folder / "site.toml"
    minimum = "" if "minimum_cell" in settings else "minimum_cell = 1\n"
    minimum += "" if "privacy" in settings else "privacy.minimum_cohort = 1\n"
    path.write_text(f'name = "north"\nthreads = 1\n{minimum}{settings}\n')
    return path


def make_study(*stages: dict[str, Any], **sections: Any) -> Study:
    data = {"size": GRID.size, "spacing_mm": GRID.spacing_mm, "validation_fraction": 0.1, "test_fraction": 0.1}
    description = {
        "name": "tiny",
        "data": data,
        "model": {"width": 4, "resolutions": 2},
        "stage": list(stages),
        **sections,
    }
    return parse(description, Study, "test")


def open_site(folder: Path, study: Study, settings: str = "", draw: Draw = draw_nothing) -> Workplace:
    return open_workplace(write_site(folder, settings, draw=draw), study.canonical())


def initial(study: Study, stage: int = 1) -> Tensors:
    """Return what a server sends in a stage's first round: the groups that may travel, whole."""
    groups = study.stage[stage - 1].share or ("encoder",)
    return select_groups(read_tensors(build_stage_network(study, stage)), groups)


def ask(study: Study, number: int = 1, tensors: Tensors | None = None, stage: int = 1) -> Request:
    return Request("train", "run", study.hash(), stage, number, initial(study, stage) if tensors is None else tensors)


@contextmanager
def watching(stop_at: int = 0) -> Iterator[list[Step]]:
    """Collect the steps told; the `stop_at`-th raises InterruptedError, before anything of it is kept."""
    steps: list[Step] = []

    def listen(event: Event) -> None:
        assert isinstance(event, Step)
        steps.append(event)
        if len(steps) == stop_at:
            raise InterruptedError

    with listening(listen):
        yield steps


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
