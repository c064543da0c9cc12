"""pull: from the PACS to a folder."""

from pathlib import Path
from typing import Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, Day, SiteFile
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json


def pull(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the studies, named by pseudonym.")],
    host: Annotated[str, typer.Option("--host", help="Name or address of the archive.")],
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="DICOM port of the archive.")] = 104,
    ae_title: Annotated[str, typer.Option("--ae-title", help="AE title of the archive.")] = "ANY-SCP",
    calling_ae_title: Annotated[str, typer.Option("--calling-ae-title", help="Our AE title.")] = "PROSTAFED",
    since: Day = None,
    until: Day = None,
    description: Annotated[str, typer.Option("--description", help="Text in the study's description.")] = "",
    modality: Annotated[str, typer.Option("--modality", help="Fetch only studies of this modality.")] = "MR",
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="CSV", help="Table of accession_number or patient_id to fetch.")
    ] = None,
    move: Annotated[bool, typer.Option("--move", help="Fetch by C-MOVE: the archive connects to us.")] = False,
    listen_port: Annotated[int, typer.Option("--listen-port", min=1, max=65535, help="Our port, for --move.")] = 11113,
    listen_host: Annotated[str, typer.Option("--listen-host", help="Our address, for --move. By default all.")] = "",
    tls_authority: Annotated[
        Path | None, typer.Option("--tls-authority", metavar="CRT", help="Use TLS. The archive's authority.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="CRT", help="Our certificate.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="KEY", help="Our private key.")] = None,
    site_file: SiteFile = DEFAULT_SITE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the archive has; fetch nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch studies from the PACS that the folder does not hold yet. Exit 1: some are still missing."""
    from prostafed.client.commands.show import showing
    from prostafed.client.site.identity import read_secret
    from prostafed.client.site.site_file import read_site_file

    try:
        from prostafed.client.ingest.pacs.association import PacsServer, Tls
        from prostafed.client.ingest.pacs.pull import PullRequest, StudyQuery, read_wanted_list
        from prostafed.client.ingest.pacs.pull import pull as pull_studies
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "Fetching from a PACS needs the extra `pacs`: pip install 'prostafed[pacs]'."
        ) from error

    tls = Tls(tls_authority, tls_certificate, tls_key) if tls_authority else None
    request = PullRequest(
        server=PacsServer(host, port, ae_title, calling_ae_title, tls=tls),
        wanted=StudyQuery(
            since=since.date() if since else None,
            until=until.date() if until else None,
            description=description,
            modality=modality,
            listed=read_wanted_list(listed) if listed else (),
        ),
        out=out,
        secret=read_secret(read_site_file(site_file).secret),
        method="move" if move else "get",
        listen_port=listen_port,
        listen_host=listen_host,
        dry_run=dry_run,
    )
    with showing("Fetching") as on_study:
        found = pull_studies(request, on_study)
    unfinished = [study["study"] for study in found["studies"] if study["status"] in ("partial", "failed")]
    counts = found["counts"]
    lines = [
        f"{counts['studies']} studies with {counts['found']} images: {counts['fetched']} fetched, "
        f"{counts['present']} were here already.",
        *(f"Not complete: {study}. Call again: only what is missing is fetched." for study in unfinished),
    ]
    print_result(found, "\n".join(lines), as_json)
    if unfinished:
        raise typer.Exit(1)
