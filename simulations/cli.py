"""prostafed-sim: emulated hospitals on one machine."""

import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from prostafed.common.errors import ConfigurationError, ProstafedError, nearest
from prostafed.common.shell.command import TYPER, print_json, print_result, run_command, say_command
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.options import Initial, Json, MinConfidence, StudyFile
from prostafed.common.study import read_study
from prostafed.server.cli import print_report, report
from prostafed.simulations.comparison.cli import Cache, Engine, FederationFile, compare, sweep
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.run import DEFAULT_CACHE

app = typer.Typer(help="Emulate a federation of hospitals on this machine.", no_args_is_help=True, **TYPER)
app.command()(compare)
app.command()(sweep)

Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run. By default a new one in runs/.")]


@app.command()
def demo(out: Out = None, cache: Cache = DEFAULT_CACHE, as_json: Json = False) -> None:
    """Train a model at three emulated hospitals, on generated images, and compare it with local and pooled training."""
    studies = Path(__file__).parent / "experiments"
    run(studies / "demo.toml", studies / "demo-federation.toml", out=out, cache=cache, as_json=as_json)


@app.command()
def run(
    study_file: StudyFile,
    federation_file: FederationFile,
    out: Out = None,
    engine: Engine = "local",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder --out.")] = False,
    cpus_per_site: Annotated[int, typer.Option(help="CPUs of each site, for the engine flower.", min=1)] = 1,
    gpus_per_site: Annotated[
        float,
        typer.Option(
            help="GPUs of each site, for the engine flower. 0.5 lets two sites share one; 0 trains on the CPU.", min=0
        ),
    ] = 0.0,
    initial: Initial = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Run a study over an emulated federation and write a report."""
    study = read_study(study_file)
    if resume and out is None:
        raise ConfigurationError("--resume needs --out: the folder of the run to continue.")
    from prostafed.simulations.federation.federation_file import read_federation

    federation = read_federation(federation_file)
    folder = out or Path("runs") / f"{study.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"

    from prostafed.simulations.run.export import list_next
    from prostafed.simulations.run.show import showing
    from prostafed.simulations.run.simulation import Simulation, run_simulation

    start = initial.resolve() if initial else None
    command = shlex.join(["prostafed-sim", *sys.argv[1:]])
    simulation = Simulation(study, federation, folder, cache, engine, cpus_per_site, gpus_per_site, command, start)
    try:
        with showing(study) as watchers:
            written = run_simulation(simulation, resume, watchers)
    except KeyboardInterrupt as error:
        again = say_command("prostafed-sim", "run", study_file, federation_file, "--out", folder)
        again += f" --initial {shlex.quote(str(initial))}" if initial else ""
        raise ProstafedError(f"Interrupted; finished rounds are kept. To continue: {again} --resume") from error
    following = [] if as_json else list_next(folder)
    if following:
        following = [
            "Next: a bundle of the model, a generated DICOM export, and what the model finds in it.",
            *(f"  {each}" for each in following),
        ]
    raise typer.Exit(print_report(folder, written, as_json, following))


@app.command()
def phantom(
    cases: Annotated[int, typer.Option("--cases", help="How many studies to generate.", min=1)],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to. Studies that are there already are kept.")],
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other patients.", min=0)] = 0,
    center: Annotated[
        list[str] | None, typer.Option("--center", help="Centre to imitate: RUMC, ZGT or PCNN. Repeatable.")
    ] = None,
    vendor: Annotated[
        str | None,
        typer.Option("--vendor", help="Scanner to imitate: siemens, ge, philips or uih. By default that of --dicom."),
    ] = None,
    dicom: Annotated[
        str | None,
        typer.Option("--dicom", help="Write DICOM as this scanner does: siemens, ge, philips, uih or enhanced."),
    ] = None,
    readers: Annotated[int, typer.Option("--readers", help="How many readers score each case, 1 to 7.")] = 1,
    kappa: Annotated[float, typer.Option("--kappa", help="How far two readers agree on PI-RADS >= 4.")] = 0.6,
    as_json: Json = False,
) -> None:
    """Generate biparametric studies and write them in the PI-CAI layout, or as DICOM with a site's manifest."""
    from rich.console import Console
    from rich.progress import Progress

    from prostafed.simulations.dicom.layout import write_dicom_layout
    from prostafed.simulations.dicom.styles import STYLES
    from prostafed.simulations.phantom.centers import CENTERS
    from prostafed.simulations.phantom.picai_layout import Emulation, write_picai_layout
    from prostafed.simulations.phantom.settings import Readers, Scanner

    unknown = [name for name in center or () if name not in CENTERS]
    if unknown:
        raise ConfigurationError(f"--center: unknown centre '{unknown[0]}'{nearest(unknown[0], CENTERS)}")
    if dicom is not None and dicom not in STYLES:
        raise ConfigurationError(f"--dicom: unknown style '{dicom}'{nearest(dicom, STYLES)}")
    look = STYLES[dicom].look if dicom else "siemens"
    if dicom and vendor not in (None, look):
        raise ConfigurationError(
            f"--dicom {dicom} writes {look} headers, --vendor asks for a look of {vendor}. Drop one."
        )
    write = partial(write_dicom_layout, style=dicom) if dicom else write_picai_layout
    scanner = parse({"vendor": vendor or look}, Scanner, "prostafed-sim phantom")
    group = parse({"count": readers, "kappa": kappa}, Readers, "prostafed-sim phantom")
    emulation = Emulation(seed, tuple(center or CENTERS), scanner, group)
    with Progress(console=Console(stderr=True)) as bars:
        task = bars.add_task("Generating studies", total=cases)
        write(out, cases, emulation, lambda done, count: bars.update(task, completed=done, total=count))
    text = f"{cases} generated studies {f'as DICOM ({dicom})' if dicom else 'in the PI-CAI layout'}: {out}"
    print_result({"out": str(out), "cases": cases, "generated": True, "dicom": dicom}, text, as_json)


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The set to describe. By default all.")] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Check whether this folder holds the set as it is published.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe the public sets of prostate MRI and where to get them, or check a folder that holds one."""
    from prostafed.simulations.datasets.survey import describe_dataset, describe_survey, survey_folder

    known = [load_dataset(each) for each in (DATASETS if name is None else (name,))]
    if root is None:
        told = {"datasets": {each.name: each.facts() for each in known}}
        print_result(told, "\n\n".join(describe_dataset(each) for each in known), as_json)
        return
    if name is None:
        raise ConfigurationError(f"--root needs the name of a set: one of {', '.join(DATASETS)}.")
    survey = survey_folder(name, root)
    if as_json:
        print_json({"dataset": name, "root": str(root), **asdict(survey)})
    else:
        print(describe_survey(known[0], root, survey), file=sys.stderr if survey.missing else sys.stdout)
    if survey.missing:
        raise typer.Exit(1)


app.command()(report)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    site: Annotated[
        str, typer.Option("--site", metavar="NAME", help="The site whose heads complete the model, if they stayed.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="BUNDLE", help="New folder for the bundle; else RUN/bundle or RUN/bundle-NAME."),
    ] = None,
    min_confidence: MinConfidence = None,
    as_json: Json = False,
) -> None:
    """Write the federation's model as a bundle that `prostafed-site predict` reads."""
    from prostafed.simulations.run.export import export_simulation

    made = export_simulation(folder, site, out, min_confidence)
    owner = f"It holds the heads of {made['site']}." if made["site"] else "It is the federation's whole model."
    warning = "\nIt learnt from generated images. Show it no patient." if made["generated"] else ""
    text = f"Bundle: {made['bundle']}\n{owner} Read its docs/README.md before you pass it on.{warning}"
    print_result(made, text, as_json)


@app.command()
def attack(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="One attack: membership, differencing, histograms, inversion, labels or origin. Repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all that an attack draws.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Attack a run's model, its updates and what its sites told; write RUN/attacks.json and RUN/attacks.html."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from prostafed.common.privacy.attacks.show import PAGE, show_findings
    from prostafed.simulations.attacks.attack import attack_run

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("Attacking", total=None)
        found = attack_run(
            folder,
            only or (),
            seed,
            lambda name, done, count: bars.update(
                task, description=f"Attacking: {name}" if name else "Attacked", completed=done, total=count
            ),
        )
    print_result(found.model_dump(mode="json"), f"{show_findings(found)}\nPage: {folder / PAGE}", as_json)


def main() -> None:
    """Entry point."""
    run_command(app)
