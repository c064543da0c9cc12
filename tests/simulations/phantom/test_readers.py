"""Readers: the agreement asked for is the agreement measured, from the reads alone."""

import numpy as np
import pytest

from prostafed.simulations.phantom.centers import CENTERS
from prostafed.simulations.phantom.patient import draw_patient
from prostafed.simulations.phantom.readers import draw_reads, latent_correlation
from prostafed.simulations.phantom.settings import Readers


def read(center, readers, count=2000):
    rng = np.random.default_rng(5)
    patients = [draw_patient(center, rng) for _ in range(count)]
    return patients, np.array([draw_reads(patient, readers, rng) for patient in patients])


def measure_kappa(first, second):
    observed = np.mean(first == second)
    by_chance = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean())
    return (observed - by_chance) / (1 - by_chance)


@pytest.mark.parametrize("center", list(CENTERS))
@pytest.mark.parametrize("kappa", [0.2, 0.4, 0.6, 0.9])
def test_two_readers_reach_the_kappa_asked_for(center, kappa):
    _, reads = read(center, Readers(count=2, kappa=kappa))
    high = reads >= 4
    # The standard error of kappa at 2,000 cases is about sqrt(p(1 - p) / 2000) / (p (1 - p)) < 0.03.
    assert abs(measure_kappa(high[:, 0], high[:, 1]) - kappa) < 0.07


def test_every_pair_of_seven_readers_agrees_alike():
    _, reads = read("RUMC", Readers(count=7, kappa=0.5))
    kappas = [measure_kappa(reads[:, i] >= 4, reads[:, j] >= 4) for i in range(7) for j in range(i)]
    assert reads.shape == (2000, 7)
    assert abs(np.mean(kappas) - 0.5) < 0.04
    assert max(kappas) - min(kappas) < 0.15


def test_readers_keep_the_centres_rates_and_err_by_neighbouring_scores():
    patients, reads = read("RUMC", Readers(count=3, kappa=0.7))
    for score in range(1, 6):
        assert abs(np.mean(reads == score) - CENTERS["RUMC"].pirads_rates[score - 1]) < 0.04
    off = np.abs(reads - np.array([patient.pirads for patient in patients])[:, None])
    assert np.mean(off >= 3) < 0.02 < np.mean(off >= 1)


def test_readers_who_always_agree_report_the_true_score():
    patients, reads = read("PCNN", Readers(count=3, kappa=1.0), count=200)
    assert (reads == np.array([patient.pirads for patient in patients])[:, None]).all()


def test_latent_correlation_matches_the_orthant_formula():
    # At cut 0, P(both above) = 1/4 + asin(rho) / (2 pi), so kappa = 2 asin(rho) / pi.
    for kappa in (0.2, 0.5, 0.8):
        assert latent_correlation(kappa, 0.0) == pytest.approx(np.sin(np.pi * kappa / 2), abs=2e-3)
