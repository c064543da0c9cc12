"""What the rows of a manifest say of a case, in the words of a CaseRecord."""

from collections import defaultdict
from typing import Any

from prostafed.client.manifest.records import Manifest
from prostafed.client.manifest.rows import StudyRow

SIGNIFICANT_ISUP = 2  # csPCa from here on

_ISUP_OF_GLEASON = {"0+0": 0, "3+4": 2, "4+3": 3}
_ISUP_OF_SUM = {8: 4, 9: 5, 10: 5}


def describe_case(manifest: Manifest, row: StudyRow) -> dict[str, Any]:
    """Return the keywords of CaseRecord a row knows: pirads_reads, cspca, isup, age, psa, prostate_volume.

    One PI-RADS score per reader, the highest over its lesions, sorted by reader id. ISUP is the case's own, else the
    highest of its lesions where each of them has a grade; csPCa is the case's own, else ISUP >= 2.
    """
    highest: defaultdict[str, int] = defaultdict(int)
    for read in manifest.reads:
        if read.case_id == row.case_id:
            highest[read.reader_id] = max(highest[read.reader_id], read.pirads)
    isup = row.case_ISUP
    if isup is None:
        grades = [
            lesion.isup if lesion.isup is not None else grade_gleason(lesion.gleason)
            for lesion in manifest.lesions
            if lesion.case_id == row.case_id
        ]
        known = [grade for grade in grades if grade is not None]
        isup = max(known) if known and len(known) == len(grades) else None
    if row.case_csPCa is not None:
        cspca: bool | None = row.case_csPCa == "YES"
    else:
        cspca = None if isup is None else isup >= SIGNIFICANT_ISUP
    return {
        "pirads_reads": tuple(highest[reader] for reader in sorted(highest)),
        "cspca": cspca,
        "isup": isup,
        "age": row.patient_age,
        "psa": row.psa,
        "prostate_volume": row.prostate_volume,
    }


def grade_gleason(gleason: str | None) -> int | None:
    """Return the ISUP grade of a Gleason score such as "3+4": 0+0 -> 0, sum <= 6 -> 1, 3+4 -> 2, 4+3 -> 3, 8 -> 4,
    9 and 10 -> 5; None for None or a sum of 7 by other parts (Epstein et al., Am J Surg Pathol 2016).
    """
    if gleason is None:
        return None
    if gleason in _ISUP_OF_GLEASON:
        return _ISUP_OF_GLEASON[gleason]
    total = sum(map(int, gleason.split("+")))
    if total == 7:
        return None  # 2+5, 5+2: no grade group is defined by them
    return 1 if total <= 6 else _ISUP_OF_SUM[total]
