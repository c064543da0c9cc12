"""Checks of the indexed cases: are they there, on the study's grid, enough and labelled."""

from collections import Counter
from collections.abc import Iterator

from prostafed.client.gate.admission import count_patients, find_few
from prostafed.client.preflight.records import Remark, Situation
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.imaging.cases import Grid
from prostafed.common.study import Data


def check_cases(situation: Situation) -> Iterator[Remark]:
    """The folder of cases."""
    data = situation.data or Data()
    try:
        cases = open_case_folder(situation.site.cases)
    except DataError as error:
        yield Remark("There are no cases that can be used.", str(error))
        return
    yield Remark(f"{len(cases.records)} cases are indexed: {_describe(cases.grid, cases.sequences)}.")
    wanted = Grid(data.spacing_mm, data.size)
    if situation.data and (cases.grid, cases.sequences) != (wanted, data.sequences):
        yield Remark(
            f"The cases lie on {_describe(cases.grid, cases.sequences)}; the study wants "
            f"{_describe(wanted, data.sequences)}.",
            "Index again with this study: prostafed-site index --study STUDY.toml.",
        )
    lacking = Counter(name for each in cases.records for name in data.sequences if name not in each.sequences)
    if refused := {name: count for name, count in lacking.items() if name not in data.allow_missing}:
        found = ", ".join(f"{count} lack {name}" for name, count in sorted(refused.items()))
        yield Remark(
            f"Cases lack a sequence the study wants: {found}.",
            "Export the series and index again; else they are left out.",
        )
    patients = count_patients(cases.records)
    if few := find_few(patients, situation.site.privacy.minimum_cohort):
        yield Remark(f"{patients} patients are few: every stage of a study is declined here.", few)
    generated = sum(record.generated for record in cases.records)
    if generated:
        yield Remark(f"{generated} cases are generated images, not patients.")
    labels = Counter(record.cspca for record in cases.records)
    counts = f"csPCa: {labels[True]} yes, {labels[False]} no, {labels[None]} unknown; "
    read = sum(bool(record.pirads_reads) for record in cases.records)
    lesions = sum("lesion" in record.masks for record in cases.records)
    counts += f"{read} with PI-RADS, {lesions} with lesions delineated or ruled out. These counts stay here."
    if labels[True] and labels[False]:
        yield Remark(counts)
    else:
        yield Remark(
            counts,
            "Supervised stages need cases with and without csPCa: fill in case_csPCa in studies.csv and index again.",
        )


def _describe(grid: Grid, sequences: tuple[str, ...]) -> str:
    return f"{grid} with {', '.join(sequences)}"
