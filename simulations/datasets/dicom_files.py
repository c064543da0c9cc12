"""Public sets that are published as DICOM: read by the same rooms as a hospital's export, without its pseudonyms."""

from dataclasses import replace
from pathlib import Path

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.sources import find_sources
from prostafed.client.ingest.records import Series
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.study import Volumes


def read_dicom(record: CaseRecord, folder: Path, sequences: tuple[str, ...], allow_missing: tuple[str, ...]) -> Volumes:
    """Return the t2w and those of `sequences` that the DICOM files below `folder` hold; masks are none.

    Generated files say so, and the record's source is then "phantom". Raises DataError, CODE case=<id>: text, where the
    files must be refused, or lack a sequence that `allow_missing` does not name.
    """
    studies, findings = read_studies(folder, workers=1)
    for finding in (*findings, *(finding for study in studies for finding in study.findings)):
        if finding.severity == "F":
            raise DataError(finding.text.replace("case=-", f"case={record.case_id}", 1))
    refusals: list[SourceError] = []

    def report(error: SourceError, series: Series | None) -> None:
        if error.severity == "F":
            refusals.append(error)

    every = [series for study in studies for series in study.series]
    found = find_sources(every, ("t2w", *sequences), allow_missing, report)
    if refusals:
        raise DataError(f"{refusals[0].code} case={record.case_id}: {refusals[0].text}")
    return Volumes(
        replace(record, source="phantom") if any(study.generated for study in studies) else record,
        {name: source.image for name, source in found.items()},
        {},
        {name: source.text for name, source in found.items()},
    )
