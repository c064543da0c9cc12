"""init, key, check, start and status: from an empty folder to a site that works."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile, StudyFile, read_data
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.command import print_json, print_result
from prostafed.common.shell.options import Json
from prostafed.common.shell.probes import HealthGrpc, HealthHttp, serving_health


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    name: Annotated[str, typer.Option("--name", help="Name of the site: lower case letters, digits and hyphens.")],
    as_json: Json = False,
) -> None:
    """Make a site's folder with a site file, a secret, a key pair and an empty manifest."""
    from prostafed.client.site.setup import init_site

    made = init_site(folder, name)
    text = (
        f"Made {folder}.\n"
        f"1. In {folder}: prostafed-site join FILE, with the file that the coordinator sends. Or send it "
        f"{made.public_key}, and nothing else of {folder}.\n"
        f"2. Keep a copy of {made.secret} in a safe place of the hospital: pseudonyms are made with it.\n"
        f"3. Export studies from the PACS into a folder, and name it in {made.site_file} (dicom).\n"
        f"4. In {folder}: prostafed-site manifest init, fill in {made.manifest}/*.csv, prostafed-site manifest check.\n"
        "5. prostafed-site index, prostafed-site qc, prostafed-site check."
    )
    told = {"site": str(made.site_file), "public_key": str(made.public_key), "manifest": str(made.manifest)}
    print_result(told, text, as_json)


def key(
    path: Annotated[Path, typer.Argument(metavar="KEY", help="Where to write the private key, e.g. site.key.")],
    as_json: Json = False,
) -> None:
    """Make the site's key pair. Send KEY.pub to the coordinator; KEY itself never leaves."""
    from prostafed.common.shell.keys import create_node_key

    public = create_node_key(path, path.stem)
    text = f"Send {public} to the coordinator. Keep {path} to yourself."
    print_result({"private_key": str(path), "public_key": str(public)}, text, as_json)


def check(site_file: SiteFile = DEFAULT_SITE, study_file: StudyFile = None, as_json: Json = False) -> None:
    """Say what keeps the site from taking part, and how to mend it. Exit 0: ready; 1: not yet."""
    from prostafed.client.commands.show import show_results, showing
    from prostafed.client.preflight import run_checks
    from prostafed.client.preflight.records import Situation
    from prostafed.client.site.site_file import read_site_file

    data = read_data(study_file) if study_file else None
    situation = Situation(site_file, read_site_file(site_file), data, datetime.now(UTC))
    with showing("Checking"):
        results = list(run_checks(situation))
    ready = all(result.ok for _, result in results)
    told = {"ready": ready, "results": [result.as_json(name) for name, result in results]}
    print_result(told, show_results(results), as_json)
    if not ready:
        raise typer.Exit(1)


def start(
    site_file: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.")],
    health: HealthHttp = "",
    health_grpc: HealthGrpc = "",
    as_json: Json = False,
) -> None:
    """Connect to the coordinator and work until Ctrl-C. No port is opened, unless monitors are to ask here."""
    from prostafed.client.connect.health import describe_site
    from prostafed.client.connect.resident import run_link
    from prostafed.client.site.site_file import open_site

    site = open_site(site_file)
    server = site.server
    if server is None:
        raise ConfigurationError(f"{site_file}: the table [server] is missing. Add address, root_certificates and key.")
    address = server.address

    def on_ready() -> None:
        if as_json:
            print_json({"connected": address})
        typer.echo(f"Connected to {address}. Ctrl-C ends it.", err=True)

    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    logging.getLogger("prostafed").addHandler(to_terminal)
    with serving_health(lambda: describe_site(site_file), health, health_grpc):
        run_link(site_file, site, server, on_ready)


def status(
    site_file: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.")] = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Say whether the site is connected and could train now, and what to do. Exit 0: ready; 1: not; 3: not running."""
    from prostafed.client.connect.health import describe_site

    health = describe_site(site_file)
    print_result(health.as_json(), health.say(), as_json)
    raise typer.Exit(health.exit_code)
