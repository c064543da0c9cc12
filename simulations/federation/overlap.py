"""Patients at two sites of one federation: what one site trains on, another would test on.

A patient is known again by the id a set gives him; by a set's own table of patients that it took over from another; and
by the fingerprint of the T2, which needs neither.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import ConfigurationError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets import load_dataset
from prostafed.simulations.datasets.fingerprint import DIGITS, SAME_STUDY
from prostafed.simulations.federation.federation_file import (
    CasesSite,
    DatasetSite,
    Federation,
    PhantomSite,
    SimulatedSite,
)
from prostafed.simulations.federation.hospitals import Hospital

Patient = tuple[str, ...]  # the name of the set, and what he is called there


def check_overlap(federation: Federation, hospitals: Sequence[Hospital]) -> list[str]:
    """Return a sentence for each two sites that share patients.

    Raises ConfigurationError with all of them unless the federation file says `allow_overlap`. Generated patients are
    numbered anew in every folder: of two folders they are others.
    """
    known = read_taken_over(federation.site)
    pairs = combinations(zip(federation.site, hospitals, strict=True), 2)
    found = [text for one, other in pairs if (text := _compare(one, other, known))]
    if found and not federation.allow_overlap:
        raise ConfigurationError(
            "\n".join(found)
            + "\nA patient who is trained on at one site and tested at another makes results too good. "
            "Choose other centers, folds or sets, or write allow_overlap = true in the federation file."
        )
    return found


def read_taken_over(sites: Sequence[SimulatedSite]) -> Mapping[Patient, Patient]:
    """Return who a patient is in the set that took him over, as far as the sets of the sites tell it."""
    known: dict[Patient, Patient] = {}
    for site in sites:
        if isinstance(site, DatasetSite) and (read := load_dataset(site.source).read_taken_over):
            known |= {patient: (site.source, own) for patient, own in read(site.root).items()}
    return known


def find_same(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Return the index pairs of fingerprints of one study; one that is blank, or of another kind, is like none."""
    left, right = ([i for i, text in enumerate(texts) if len(text) == DIGITS] for texts in (first, second))
    if not left or not right:
        return []
    one, other = _to_signs([first[i] for i in left]), _to_signs([second[i] for i in right])
    share = (1 - one @ other.T / one.shape[1]) / 2  # of bits that differ
    return [(left[i], right[j]) for i, j in np.argwhere(share <= SAME_STUDY).tolist()]


def _compare(
    one: tuple[SimulatedSite, Hospital], other: tuple[SimulatedSite, Hospital], known: Mapping[Patient, Patient]
) -> str:
    """Return what two sites share, as a sentence; nothing where they share nothing."""
    (first, second), records = (one[0], other[0]), (one[1].cases.records, other[1].cases.records)
    names = [
        [_name_patient(site, record, known) for record in own]
        for site, own in zip((first, second), records, strict=True)
    ]
    by_id = set(names[0]) & set(names[1])
    same = find_same(*([record.fingerprint for record in own] for own in records))
    by_image = {names[0][i] for i, j in same if names[0][i] not in by_id and names[1][j] not in by_id}
    if not by_id and not by_image:
        return ""
    count = len(by_id) + len(by_image)
    return (
        f"Sites '{first.name}' and '{second.name}' share {count} patient{'s' if count > 1 else ''}: {len(by_id)} known "
        f"by id, {len(by_image)} more by image."
    )


def _name_patient(site: SimulatedSite, record: CaseRecord, known: Mapping[Patient, Patient]) -> Patient:
    """Return what tells a patient from all others, whatever site the case is at."""
    if isinstance(site, CasesSite):
        return (record.source, record.patient_id)
    patient = record.patient_id.removeprefix(f"{site.name}-")
    if record.generated:
        return (record.source, site.name if isinstance(site, PhantomSite) else str(site.root), patient)
    named = (record.source, patient)
    return known.get(named, named)


def _to_signs(fingerprints: Sequence[str]) -> npt.NDArray[np.float32]:
    rows = np.array([np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in fingerprints])
    return np.unpackbits(rows, axis=1).astype(np.float32) * 2 - 1
