"""dossier: what a data protection officer asks of a run, answered from the site's own files."""

from pathlib import Path
from typing import Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json

FOLDER = "dossiers"  # beside the site file


def dossier(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, as the audit and the outbox name it.")],
    site_file: SiteFile = DEFAULT_SITE,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write to. By default dossiers/ here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page that answers what a data protection officer asks of a run, from this hospital's own files.

    It names no patient. What no file shows is said to be not known.
    """
    from prostafed.client.dossier.answers import make_dossier
    from prostafed.common.dossier.page import show_dossier, write_dossier

    made = make_dossier(site_file, run)
    page = write_dossier(out or site_file.resolve().parent / FOLDER, run, made)
    print_result({**made.as_json(), "page": str(page)}, f"{show_dossier(made)}\n\nPage: {page}", as_json)
