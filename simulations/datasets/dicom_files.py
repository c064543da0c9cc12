"""Public sets that are published as DICOM: read by the same rooms as a hospital's export, without its pseudonyms."""

from dataclasses import replace

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.sources import find_sources
from prostafed.client.ingest.records import Series
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import GENERATED
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes


def read_dicom(study: StudyFiles, selection: Selection) -> Volumes:
    """Return the t2w and the sequences asked for that the DICOM files of a study hold; masks are none.

    Generated files say so, and the record's source is then GENERATED. Raises DataError, CODE case=<id>: text, where the
    files must be refused, or lack a sequence that may not be missing.
    """
    record = study.record
    studies, findings = read_studies(study.images["t2w"], workers=1)
    for finding in (*findings, *(finding for each in studies for finding in each.findings)):
        if finding.severity == "F":
            raise DataError(finding.text.replace("case=-", f"case={record.case_id}", 1))
    refusals: list[SourceError] = []

    def report(error: SourceError, series: Series | None) -> None:
        if error.severity == "F":
            refusals.append(error)

    every = [series for each in studies for series in each.series]
    found = find_sources(every, ("t2w", *selection.sequences), selection.allow_missing, report)
    if refusals:
        raise DataError(f"{refusals[0].code} case={record.case_id}: {refusals[0].text}")
    return Volumes(
        replace(record, source=GENERATED) if any(each.generated for each in studies) else record,
        {name: source.image for name, source in found.items()},
        {},
        {name: source.text for name, source in found.items()},
    )
