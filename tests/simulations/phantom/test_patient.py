"""Patients: rates as published, within binomial error."""

import numpy as np
import pytest

from prostafed.simulations.phantom.centers import CENTERS
from prostafed.simulations.phantom.patient import draw_patient

COUNT = 4000


@pytest.fixture(scope="module", params=list(CENTERS))
def drawn(request):
    rng = np.random.default_rng(11)
    return CENTERS[request.param], [draw_patient(request.param, rng) for _ in range(COUNT)]


def assert_rate(found, expected, of):
    assert abs(found - expected) < 3.5 * np.sqrt(expected * (1 - expected) / of) + 1e-9, (found, expected, of)


def test_the_tables_add_up_to_the_1500_studies():
    assert sum(center.studies for center in CENTERS.values()) == 1500
    assert sum(sum(center.cspca) for center in CENTERS.values()) == 425
    assert all(sum(center.pirads) == center.studies for center in CENTERS.values())
    rates = [
        sum(center.cspca[row] for center in CENTERS.values())
        / sum(center.pirads[row + 1] for center in CENTERS.values())
        for row in (1, 2, 3)
    ]
    assert [round(100 * rate) for rate in rates] == [13, 41, 66]


def test_pirads_and_cspca_come_at_the_centres_rates(drawn):
    center, patients = drawn
    for score in range(1, 6):
        assert_rate(np.mean([patient.pirads == score for patient in patients]), center.pirads_rates[score - 1], COUNT)
    assert_rate(np.mean([patient.cspca for patient in patients]), sum(center.cspca) / center.studies, COUNT)
    for row, scores in enumerate(((1, 2), (3,), (4,), (5,))):
        group = [patient for patient in patients if patient.pirads in scores]
        studies = sum(center.pirads[score - 1] for score in scores)
        assert_rate(np.mean([patient.cspca for patient in group]), center.cspca[row] / studies, len(group))
        assert_rate(np.mean([patient.isup == 1 for patient in group]), center.isup1[row] / studies, len(group))


def test_age_gland_and_psa_come_as_published(drawn):
    center, patients = drawn
    for cspca, group in ((False, center.without), (True, center.with_cspca)):
        chosen = [patient for patient in patients if patient.cspca == cspca]
        error = 4 / np.sqrt(len(chosen))
        assert abs(np.mean([p.age for p in chosen]) - group.age_years[0]) < error * group.age_years[1]
        logs = np.log([p.gland_ml for p in chosen])
        assert abs(logs.mean() - group.log_gland_ml[0]) < error * group.log_gland_ml[1] + 0.01
        slope, intercept, residual = group.log_psa_on_log_gland
        found = np.log([p.psa for p in chosen]) - (slope * logs + intercept)
        assert abs(found.mean()) < error * residual + 0.01


def test_findings_agree_with_the_patient(drawn):
    _, patients = drawn
    for patient in patients:
        assert len(patient.findings) <= 3
        if patient.pirads >= 3:
            assert max(finding.pirads for finding in patient.findings) == patient.pirads
        if patient.isup:
            assert max(finding.isup for finding in patient.findings) == patient.isup
        assert all(0.1 <= finding.conspicuity <= 0.95 for finding in patient.findings)
        assert all(0.08 <= finding.volume_ml <= 0.25 * patient.gland_ml + 1e-9 for finding in patient.findings)
    # Cancers stand out more, but the two overlap.
    cancer, benign = (
        np.array([f.conspicuity for p in patients for f in p.findings if p.pirads >= 3 and (f.isup >= 2) == wanted])
        for wanted in (True, False)
    )
    assert cancer.mean() > benign.mean() + 0.05
    assert np.mean(benign > cancer.mean()) > 0.05


def test_unknown_centre_is_named():
    with pytest.raises(ValueError, match=r"Unknown centre 'UMCG'\. Valid: RUMC, ZGT, PCNN"):
        draw_patient("UMCG", np.random.default_rng(0))
