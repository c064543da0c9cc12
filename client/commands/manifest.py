"""manifest init, check and import: the tables beside the images."""

from pathlib import Path
from typing import Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, Dicom, SiteFile, read_export
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.command import TYPER, print_result
from prostafed.common.shell.options import Json

app = typer.Typer(
    help="Keep the tables of what is known beside the images: studies.csv, lesions.csv, reads.csv.",
    no_args_is_help=True,
    **TYPER,
)


@app.command("init")
def init_tables(dicom: Dicom = None, site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """Write the tables with a line for each study of the export. Lines that are there already are kept."""
    from prostafed.client.ingest.draft import init_manifest
    from prostafed.client.ingest.patients import describe_shared, find_shared_numbers
    from prostafed.client.site.identity import read_secret
    from prostafed.client.site.site_file import find_dicom, read_site_file

    settings = read_site_file(site_file)
    secret, folder = read_secret(settings.secret), find_dicom(settings, dicom)
    studies = read_export(folder)
    added = init_manifest(settings.manifest, studies, folder, secret)
    for finding in describe_shared(find_shared_numbers(studies)):
        typer.echo(finding.text, err=True)
    text = f"{added} of {len(studies)} studies added to {settings.manifest}/studies.csv. Fill in what you know."
    print_result({"manifest": str(settings.manifest), "studies": len(studies), "added": added}, text, as_json)


@app.command("check")
def check_tables(site_file: SiteFile = DEFAULT_SITE, as_json: Json = False) -> None:
    """List every mistake in the tables, with file, line and column. Exit 1: there is one."""
    from prostafed.client.manifest import check_manifest
    from prostafed.client.site.site_file import read_site_file

    manifest = check_manifest(read_site_file(site_file).manifest)
    errors = [each for each in manifest.findings if each.severity == "F"]
    texts = [each.local or each.text for each in manifest.findings]
    found = [
        {"code": each.code, "severity": each.severity, "text": text}
        for each, text in zip(manifest.findings, texts, strict=True)
    ]
    lines = [f"{'error' if each['severity'] == 'F' else 'warning'}: {each['text']}" for each in found]
    lines.append(f"{len(manifest.studies)} studies: {len(errors)} errors, {len(found) - len(errors)} warnings.")
    told = {"studies": len(manifest.studies), "errors": len(errors), "findings": found}
    print_result(told, "\n".join(lines), as_json)
    if errors:
        raise typer.Exit(1)


@app.command("import")
def import_tables(
    source: Annotated[Path, typer.Argument(metavar="TABLE", help="PI-CAI's marksheet.csv, or Prostate158's folder.")],
    kind: Annotated[str, typer.Option("--from", help="The data set: picai or prostate158.")] = "picai",
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Write the tables from those of a public data set."""
    from prostafed.client.manifest.imports import FORMATS, write_tables
    from prostafed.client.site.site_file import read_site_file
    from prostafed.common.errors import nearest

    if kind not in FORMATS:
        raise ConfigurationError(f"--from is {kind!r}{nearest(kind, FORMATS)}")
    folder = read_site_file(site_file).manifest
    tables = FORMATS[kind](source)
    write_tables(folder, tables)
    text = f"{len(tables.studies)} studies written to {folder}. Next: prostafed-site manifest check."
    print_result({"manifest": str(folder), "studies": len(tables.studies)}, text, as_json)
