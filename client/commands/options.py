"""Options that several commands have, and what they stand for."""

import getpass
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prostafed.common.errors import ConfigurationError

if TYPE_CHECKING:
    from prostafed.client.ingest.records import DicomStudy
    from prostafed.common.study import Data

DEFAULT_SITE = Path("site.toml")

SiteFile = Annotated[Path, typer.Option("--site", metavar="SITE.toml", help="The site file.")]
StudyFile = Annotated[
    Path | None, typer.Option("--study", metavar="STUDY.toml", help="The study that sets grid and sequences.")
]
Dicom = Annotated[
    Path | None,
    typer.Option("--dicom", metavar="DIR", help="Folder of the PACS export. By default `dicom` of the site file."),
]
Day = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The first or the last day to fetch."),
]


def read_data(study_file: Path | None) -> "Data":
    """Return what a study file says of its cases; the defaults where none is named."""
    from prostafed.common.study import Data, read_study

    return read_study(study_file).data if study_file else Data()


def read_export(folder: Path) -> "list[DicomStudy]":
    """Return the studies of an export as their headers describe them; what concerns no single one goes to stderr."""
    from prostafed.client.commands.show import showing
    from prostafed.client.ingest.scan.headers import read_studies

    with showing("Reading headers") as on_file:
        studies, findings = read_studies(folder, on_file=on_file)
    for finding in findings:
        typer.echo(finding.text, err=True)
    return studies


def is_group_alone(context: typer.Context, site_file: Path) -> bool:
    """Return whether a group of commands was called without one of them; raises ConfigurationError where a site file
    was named before the command, which would not see it.
    """
    if context.invoked_subcommand and site_file != DEFAULT_SITE:
        name = context.invoked_subcommand
        raise ConfigurationError(f"Name the site file behind the command: {name} --site {site_file}.")
    return context.invoked_subcommand is None


def name_user() -> str:
    """Return the login name of who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
