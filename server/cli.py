"""prostafed-server: the coordinator of a federation."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prostafed.common.errors import ConfigurationError, ProstafedError
from prostafed.common.shell.command import NOT_EVERYBODY, TYPER, print_json, print_result, run_command
from prostafed.common.shell.options import Initial, Json, MinConfidence, StudyFile
from prostafed.common.shell.probes import HealthGrpc, HealthHttp, serving_health
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.common.study import RUN_NAME, Study, read_study

if TYPE_CHECKING:
    from prostafed.server.link.submission import Submission
    from prostafed.server.records.lines import RoundLine

app = typer.Typer(help="Coordinate a federation of hospitals.", no_args_is_help=True, **TYPER)

Home = Annotated[
    Path,
    typer.Option(
        "--home", help="The coordinator's folder: it holds keys, sites and runs.", envvar="PROSTAFED_SERVER_HOME"
    ),
]
DEFAULT_HOME = Path("coordinator")


@app.command()
def init(
    home: Home = DEFAULT_HOME,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address that the sites use to reach you. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the coordinator's folder, with a certificate authority of its own."""
    from prostafed.server.link.link import create_home

    certificate = create_home(home, tuple(host or ())).ca_certificate
    reached = host[0] if host else "HOST"
    text = f"Made {home}. Keep it to yourself. Invite each hospital: prostafed-server invite NAME --host {reached}"
    print_result({"home": str(home), "ca_certificate": str(certificate)}, text, as_json)


@app.command()
def certificate(
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address to add to those it is for. Repeatable.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Issue the next server certificate, for the hosts of the last one and those you add. Sites keep their ca.crt.

    A link that runs renews it by itself, 30 days ahead. This command is for a name that was forgotten, and for ca.key
    kept elsewhere.
    """
    from datetime import UTC, datetime

    from prostafed.server.link.pki import Pki, describe_certificates, replace_server_certificate

    now, pki = datetime.now(UTC), Pki(home / "pki")
    replace_server_certificate(pki, host or [], now)
    state = describe_certificates(pki, now)
    text = f"The server's certificate is for {', '.join(state.hosts)}, until {state.server_until:%Y-%m-%d}."
    told = {"hosts": state.hosts, "until": state.server_until.isoformat(), "warnings": state.warnings}
    print_result(told, "\n".join([text, *state.warnings]), as_json)


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="The site's stable name: lower case letters, digits and hyphens.")],
    host: Annotated[
        str, typer.Option("--host", metavar="HOST[:PORT]", help="How the hospital reaches you. The port is 8000.")
    ],
    days: Annotated[int, typer.Option("--days", help="Days until the invitation ends.", min=1, max=90)] = 7,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The join file. By default NAME.join.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let a site that is enrolled come back with a new key.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Write a join file for a hospital: it enrols the hospital's key, once. An earlier one of the same name ends."""
    from datetime import UTC, datetime

    from prostafed.server.link.invitations import invite as make_invitation
    from prostafed.server.link.invitations import write_join_file

    path = out or Path(f"{name}.join")
    if path.exists():
        raise ConfigurationError(
            f"{path} exists and is not overwritten. Move it away, or name another file with --out."
        )
    join = make_invitation(home, name, host, days, datetime.now(UTC), replace=replace)
    write_join_file(path, join)
    text = (
        f"Wrote {path} for {name}, who reaches you at {join.address}. It works once, until {join.until:%Y-%m-%d %H:%M} "
        f"UTC. Send it by a way that nobody else reads. There: prostafed-site join {path.name}"
    )
    told = {"join_file": str(path), "name": name, "address": join.address, "until": join.until.isoformat()}
    print_result(told, text, as_json)


@app.command()
def enrol(
    name: Annotated[str, typer.Argument(help="The site's stable name.")],
    public_key: Annotated[Path, typer.Argument(metavar="KEY.pub", help="The public key the site sent you.")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Let a site take part from now on."""
    from prostafed.server.link.link import enrol_site

    enrol_site(home, name, public_key)
    print_result({"enrolled": name}, f"Enrolled {name}.", as_json)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The site's name.")], home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Let nobody act as a site any more, from now on, also while a run goes on."""
    from prostafed.server.link.link import revoke_site

    revoke_site(home, name)
    print_result({"revoked": name}, f"Revoked {name}. Its key is kept in {home}/sites/revoked.", as_json)


@app.command()
def start(
    home: Home = DEFAULT_HOME,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on. By default every address of this machine.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Port to listen on.", min=1, max=65535)] = 8000,
    behind_proxy: Annotated[
        bool,
        typer.Option("--behind-proxy", help="Speak plain HTTP, on loopback only, to your own proxy that ends TLS."),
    ] = False,
    health: HealthHttp = "",
    health_grpc: HealthGrpc = "",
    as_json: Json = False,
) -> None:
    """Run the link that the sites connect to, until Ctrl-C.

    The port serves enrolled sites and nobody else. Runs are started and stopped by commands on this machine only. A
    link that was killed goes on with its runs when it is started again.
    """
    from prostafed.server.link.health import describe_coordinator
    from prostafed.server.link.link import Listening, start_link

    def on_ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "ca_certificate": str(home / "pki" / "ca.crt")})
        where = address if host or behind_proxy else f"port {port} of every address of this machine"
        typer.echo(f"Ready at {where}. Ctrl-C ends it.", err=True)

    with serving_health(lambda: describe_coordinator(home), health, health_grpc):
        start_link(home, Listening(host or "", port, behind_proxy), on_ready)


@app.command()
def status(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Say who is connected, what goes on, and what to mend. Exit 0: all well; 1: something to mend; 3: no link."""
    from prostafed.server.link.health import describe_coordinator

    health = describe_coordinator(home)
    print_result(health.as_json(), health.say(), as_json)
    raise typer.Exit(health.exit_code)


@app.command()
def run(
    study_file: StudyFile,
    sites: Annotated[
        int | None, typer.Option("--sites", help="How many sites to wait for. By default all that are enrolled.", min=1)
    ] = None,
    home: Home = DEFAULT_HOME,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. By default the study's name and hash.")
    ] = None,
    initial: Initial = None,
    as_json: Json = False,
) -> None:
    """Run a study with the connected sites, or continue the run of that name."""
    study = read_study(study_file)
    run_name = name or f"{study.name}-{study.hash()[:12]}"
    if not RUN_NAME.fullmatch(run_name):
        raise ConfigurationError(f"--name is {run_name!r}, expected letters, digits, '.', '_' and '-' only.")
    from prostafed.server.link.submission import Submission

    _check_initial(study, initial)
    start = str(initial.resolve()) if initial else ""
    expected = sites or len(list((home / "sites").glob("*.pub")))
    if not expected:
        raise ConfigurationError(
            f"No hospital has joined {home} yet. Invite one with prostafed-server invite; once it has joined, "
            "prostafed-server status lists it."
        )
    _run(home, Submission(study.canonical(), run_name, expected, start), as_json)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Continue a run that crashed, was stopped, or lacked answers from the sites."""
    from prostafed.server.link.submission import read_submission

    _run(home, read_submission(home, name), as_json)


@app.command()
def watch(
    name: Annotated[str, typer.Argument(help="Name of the run.")], home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Show all rounds of a run while it goes on. Ctrl-C ends the watching, not the run."""
    from prostafed.server.link.submission import follow_run

    with listening(_show_event):
        follow_run(home, name, _show_round)
    if as_json:
        print_json({"run": str(home / "runs" / name), "state": "finished"})


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="Name of the run.")], home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Stop a run. `resume` continues it. The sites may compute for some seconds more."""
    from prostafed.server.link.submission import stop_run

    stop_run(home, name)
    print_result({"stopped": name}, f"Stopped {name}.", as_json)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")], as_json: Json = False) -> None:
    """Write the report of a run again, from its folder alone."""
    from prostafed.server.report import write_report

    print_report(folder, write_report(folder), as_json)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="BUNDLE", help="New folder for the bundle. By default RUN/bundle.")
    ] = None,
    min_confidence: MinConfidence = None,
    as_json: Json = False,
) -> None:
    """Write the model of a finished run as a bundle that a hospital can use, with a model card."""
    from prostafed.server.export import export_run

    made = export_run(folder, out, min_confidence)
    text = (
        f"Bundle: {made['bundle']}\nONNX and PyTorch differ by at most {made['onnx_max_difference']:.1e}. Read its "
        "docs/README.md before it is passed on."
    )
    print_result(made, text, as_json)


@app.command()
def dossier(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")], as_json: Json = False
) -> None:
    """Write RUN/dossier.html: what a data protection officer asks of a run, answered from its folder alone."""
    from prostafed.common.dossier.page import show_dossier, write_dossier
    from prostafed.server.dossier.answers import make_dossier

    made = make_dossier(folder)
    page = write_dossier(folder, "dossier", made)
    print_result({**made.as_json(), "page": str(page)}, f"{show_dossier(made)}\n\nPage: {page}", as_json)


def print_report(folder: Path, written: Path, as_json: bool, following: Sequence[str] = ()) -> int:
    """Print where a run's report lies, or, as JSON, its results too; then `following`; last, whom the run went on
    without. Return the exit code of a run that ended so.
    """
    from prostafed.server.report import describe_ending, last_words, summary_table

    words, (ending, missing) = last_words(folder), describe_ending(folder)
    if as_json:
        told: dict[str, object] = {"run": str(folder), "report": str(written), "results": summary_table(folder)}
        told |= {"complete": bool(ending) and not missing, "missing": missing}
        print_json(told | ({"warnings": words} if words else {}))
    else:
        said = [ending] if ending else []
        last = [*following, *said] if missing else [*said, *following]
        print("\n".join([f"Report: {written}", *words, *last]))
    return NOT_EVERYBODY if missing else 0


def _check_initial(study: Study, initial: Path | None) -> None:
    """Raise ConfigurationError now, not at the link, where the file is not the one the study names."""
    if study.initial.weights != "random" or initial is not None:
        from prostafed.common.study.weights import load_initial

        with listening(lambda event: typer.echo(event.text, err=True) if isinstance(event, Said) else None):
            load_initial(study, initial)


def _run(home: Path, submission: "Submission", as_json: bool) -> None:
    from prostafed.server.link.submission import run_study
    from prostafed.server.report import write_report

    try:
        with listening(_show_event):
            folder = run_study(home, submission, _show_round)
    except KeyboardInterrupt as error:
        name = submission.run
        raise ProstafedError(
            f"No longer watching; the run goes on. prostafed-server watch {name} shows it, stop {name} ends it."
        ) from error
    raise typer.Exit(print_report(folder, write_report(folder), as_json))


def _show_round(row: "RoundLine") -> None:
    from prostafed.server.link.following import say_round

    typer.echo(say_round(row), err=True)


def _show_event(event: Event) -> None:
    if isinstance(event, Said):
        typer.echo(f"{event.site}: {event.text}", err=True)


def main() -> None:
    """Entry point."""
    run_command(app)
