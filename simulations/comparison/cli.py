"""prostafed-sim compare and sweep."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from prostafed.common.errors import ConfigurationError, ProstafedError, RoundError, nearest
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Initial, Json, StudyFile
from prostafed.common.study import ARMS, Study, read_study
from prostafed.simulations.run import CACHE_VARIABLE, DEFAULT_CACHE

FederationFile = Annotated[Path, typer.Argument(metavar="FEDERATION.toml", help="The federation file: who takes part.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the runs. Finished runs in it are kept.")]
Cache = Annotated[
    Path, typer.Option("--cache", help="Folder that keeps prepared cases for later runs.", envvar=CACHE_VARIABLE)
]
Engine = Annotated[
    str, typer.Option("--engine", help="Where sites run: local (this process) or flower (Flower on Ray).")
]


def compare(
    study_file: StudyFile,
    federation_file: FederationFile,
    out: Out,
    arms: Annotated[
        list[str] | None, typer.Option("--arms", help=f"An arm to run: {', '.join(ARMS)}. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds to run, from the study's own on.", min=1)] = 3,
    start: Annotated[
        list[str] | None,
        typer.Option("--start", help="Start the encoder so: random, local-ssl or federated-ssl. Repeatable."),
    ] = None,
    labels: Annotated[
        list[float] | None,
        typer.Option("--labels", help="Use this share of the labelled patients, e.g. 0.1. Repeatable."),
    ] = None,
    engine: Engine = "local",
    initial: Initial = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Say whether federating helps: run the federation and every arm over seeds, starts and shares of labels."""
    wanted = tuple(arms or ARMS)
    unknown = [name for name in wanted if name not in ARMS]
    if unknown:
        raise ConfigurationError(f"--arms: unknown arm '{unknown[0]}'{nearest(unknown[0], ARMS)}")
    choices: dict[str, Sequence[Any]] = {"arms.compare": [list(wanted)]}
    choices |= {"start": start} if start else {}
    choices |= {"labels": labels} if labels else {}
    _run(read_study(study_file), federation_file, choices, seeds, out, engine, initial, cache, as_json)


def sweep(
    grid_file: Annotated[
        Path, typer.Argument(metavar="SWEEP.toml", help="The sweep file: it names study, federation, seeds and grid.")
    ],
    out: Out,
    engine: Engine = "local",
    initial: Initial = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Run a study with every combination of the values that a sweep file lists."""
    from prostafed.simulations.comparison.cells import read_grid

    grid = read_grid(grid_file)
    study = read_study(grid.study)
    _run(study, grid.federation, grid.grid, grid.seeds, out, engine, initial, cache, as_json)


def _run(
    study: Study,
    federation_file: Path,
    choices: Mapping[str, Sequence[Any]],
    seeds: int,
    out: Path,
    engine: str,
    initial: Path | None,
    cache: Path,
    as_json: bool,
) -> None:
    from prostafed.simulations.comparison.cells import vary
    from prostafed.simulations.federation.federation_file import read_federation

    cells, federation = vary(study, choices, seeds), read_federation(federation_file)  # mistakes before torch is loaded
    from prostafed.common.imaging.cases import GENERATED
    from prostafed.simulations.comparison.page import write_page
    from prostafed.simulations.comparison.runs import (
        Comparison,
        list_arms_left_out,
        list_wanting,
        run_comparison,
        summarise,
    )
    from prostafed.simulations.run.show import showing
    from prostafed.simulations.run.simulation import Simulation

    start = initial.resolve() if initial else None
    base = Simulation(study, federation, out, cache, engine, initial=start)
    try:
        comparison = Comparison(cells, base, out)
        rows, failed = run_comparison(comparison, showing, _say_cell)
    except KeyboardInterrupt as error:
        raise ProstafedError("Interrupted; finished runs are kept. The same command goes on.") from error
    generated = any(site.source == GENERATED for site in federation.site)
    command = shlex.join(["prostafed-sim", *sys.argv[1:]])
    left_out = list_arms_left_out(comparison)
    wanting = list_wanting(comparison)
    page = write_page(out, summarise(rows), seeds, generated, command, left_out, [*failed, *wanting])
    told = {
        "out": str(out),
        "report": str(page),
        "runs": len(cells),
        "generated": generated,
        "left_out": left_out,
        "wanting": [*failed, *wanting],
        "rows": rows,
    }
    print_result(told, "\n".join([f"Report: {page}", *wanting]), as_json)
    if failed:
        raise RoundError(
            f"{len(failed)} of {len(cells)} runs failed; the same command resumes them. {' '.join(failed)}"
        )


def _say_cell(name: str, number: int, count: int) -> None:
    typer.echo(f"Run {number} of {count}: {name}", err=True)
