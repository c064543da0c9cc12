"""index, qc and find: from a PACS export to cases, and a look at them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from prostafed.client.commands.options import DEFAULT_SITE, Dicom, SiteFile, StudyFile, read_data, read_export
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json


def index(
    dicom: Dicom = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="CASES", help="Folder for the cases. By default `cases` of the site file."),
    ] = None,
    site_file: SiteFile = DEFAULT_SITE,
    study_file: StudyFile = None,
    series_map: Annotated[
        Path | None, typer.Option("--series-map", metavar="CSV", help="Series to use. By default CASES/series_map.csv.")
    ] = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes. By default one a core.")] = None,
) -> None:
    """Turn a PACS export into cases, or say what to export again. Exit 0: all studies are usable; 1: some are not."""
    from prostafed.client.commands.show import list_findings, show_index, show_withdrawn, showing
    from prostafed.client.gate.opt_out import describe_withdrawn, read_opted_out
    from prostafed.client.ingest.index import index_site, request_index
    from prostafed.client.site.site_file import read_site_file

    settings = read_site_file(site_file)
    request = request_index(settings, read_data(study_file), dicom)
    if request.manifest is None:
        typer.echo("No manifest: cases get no labels. Make one: prostafed-site manifest init.", err=True)
    options: dict[str, Any] = {"series_map": series_map, "dry_run": dry_run, "workers": workers}
    request = replace(request, out=out or settings.cases, **options)
    before = read_opted_out(settings.memory)
    with showing("Indexing") as on_study:
        found = index_site(request, on_study)
    withdrawn = describe_withdrawn(site_file.resolve().parent, read_opted_out(settings.memory).keys() - before.keys())
    print_result(
        {**found, "withdrawn": withdrawn}, show_withdrawn(withdrawn) + show_index(found, dry_run=dry_run), as_json
    )
    if any(each["severity"] == "F" for each in list_findings(found)):
        raise typer.Exit(1)


def qc(
    out: Annotated[
        Path, typer.Option("--out", metavar="REPORT.html", help="The report to write. A JSON file goes beside it.")
    ],
    cases: Annotated[
        Path | None,
        typer.Option("--cases", metavar="CASES", help="Folder of indexed cases. By default `cases` of the site file."),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Cases to show, those with warnings first.")] = 60,
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Write a report with pictures on the quality of the indexed cases. It must stay at this hospital."""
    from prostafed.client.commands.show import showing
    from prostafed.client.ingest.quality.page import write_quality_report
    from prostafed.client.site.site_file import read_site_file

    settings = read_site_file(site_file)
    with showing("Looking at cases") as on_case:
        report = write_quality_report(cases or settings.cases, out, settings.name, on_case, pictures)
    print_result(report, f"Report: {out}\nIt shows patients' images: it stays at the hospital.", as_json)


def find(
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="The case id that a finding or a report shows.")],
    dicom: Dicom = None,
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Print which folder, or which line of studies.csv, a pseudonym stands for. Nothing is written."""
    from prostafed.client.commands.show import show_series
    from prostafed.client.ingest.series_map import name_series
    from prostafed.client.manifest import check_manifest
    from prostafed.client.manifest.rows import STUDIES
    from prostafed.client.site.identity import make_pseudonym, read_secret
    from prostafed.client.site.site_file import find_dicom, read_site_file

    settings = read_site_file(site_file)
    secret = read_secret(settings.secret)
    if (settings.manifest / STUDIES).is_file():
        rows = check_manifest(settings.manifest).studies
        if row := next((each for each in rows if make_pseudonym(secret, "case", each.case_id) == case_id), None):
            text = f"The line of case_id {row.case_id} in {settings.manifest / STUDIES}."
            print_result({"case": case_id, "row": row.case_id}, text, as_json)
            return
    studies = read_export(find_dicom(settings, dicom))
    study = next((each for each in studies if make_pseudonym(secret, "study", each.uid) == case_id), None)
    if study is None:
        raise ConfigurationError(f"No study in the export has the case id {case_id!r}. Check the id and the folder.")
    series = [
        {"series": name_series(secret, each), "number": each.number, "kind": each.kind, "slices": len(each.slices)}
        for each in study.series
    ]
    told = {"case": case_id, "folder": str(study.folder), "series": series}
    print_result(told, show_series(study.folder, series), as_json)
