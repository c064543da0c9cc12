"""Anatomy and masks: volumes, zones and lesions where they belong."""

import numpy as np
import pytest

from prostafed.simulations.phantom.anatomy import draw_anatomy
from prostafed.simulations.phantom.fields import make_axis
from prostafed.simulations.phantom.masks import make_masks
from prostafed.simulations.phantom.patient import draw_patient
from prostafed.simulations.phantom.shapes import Ellipsoid, make_points

FINE = (make_axis(90, 1.0), make_axis(120, 0.8), make_axis(140, 0.8))
VOXEL_ML = 1.0 * 0.8 * 0.8 / 1000


@pytest.fixture(scope="module")
def anatomies():
    rng = np.random.default_rng(3)
    patients = [draw_patient(center, rng) for center in ("RUMC", "ZGT", "PCNN") * 8]
    return [(patient, draw_anatomy(patient, rng)) for patient in patients if patient.gland_ml < 120]


def test_ellipsoid_has_its_volume_and_its_box():
    shape = Ellipsoid((1.0, 2.0, -3.0), (10.0, 8.0, 15.0), angle=0.5, lean=0.2)
    inside = shape.depth(make_points(FINE)) > 0
    assert inside.sum() * VOXEL_ML == pytest.approx(4 / 3 * np.pi * 10 * 8 * 15 / 1000, rel=0.01)
    for axis, center, reach, positions in zip(range(3), shape.center, shape.reach, FINE, strict=True):
        others = tuple(each for each in range(3) if each != axis)
        found = positions[inside.any(axis=others)]
        assert center - reach - 1 <= found.min() <= found.max() <= center + reach + 1


def test_masks_have_the_patients_volumes(anatomies):
    for patient, anatomy in anatomies:
        gland, zones, _ = make_masks(anatomy, make_points(FINE))
        assert gland.sum() * VOXEL_ML == pytest.approx(patient.gland_ml, rel=0.03)
        assert np.mean(zones[gland > 0] == 2) == pytest.approx(patient.tz_fraction, abs=0.02)


def test_masks_are_consistent(anatomies):
    seen = 0
    for patient, anatomy in anatomies:
        gland, zones, grades = make_masks(anatomy, make_points(FINE))
        assert np.array_equal(gland > 0, zones > 0)
        assert not (grades[gland == 0]).any()
        assert set(np.unique(grades)) - {0} <= {finding.isup for finding in patient.findings if finding.isup >= 2}
        assert grades.any() == patient.cspca
        assert grades.max() == (patient.isup if patient.cspca else 0)
        seen += patient.cspca
    assert seen >= 3


def test_the_tz_lies_in_front_of_the_pz(anatomies):
    for _, anatomy in anatomies:
        _, zones, _ = make_masks(anatomy, make_points(FINE))
        y = np.broadcast_to(FINE[1][None, :, None], zones.shape)
        assert y[zones == 2].mean() < y[zones == 1].mean() - 3


def test_lesion_volume_is_the_findings(anatomies):
    """Lesions are drawn whole, their box clipped by the gland alone: most keep most of their volume."""
    kept = []
    for patient, anatomy in anatomies:
        for finding, lesion in zip(patient.findings, anatomy.lesions, strict=True):
            gland, _ = anatomy.gland.depths(make_points(FINE))
            inside = (anatomy.depth_of(lesion.part, make_points(FINE)) > 0) & (gland > 0)
            kept.append(inside.sum() * VOXEL_ML / finding.volume_ml)
    assert 0.6 < np.median(kept) < 1.3


def test_a_lesion_smaller_than_a_voxel_keeps_one(anatomies):
    coarse = make_points((make_axis(8, 14.0), make_axis(14, 8.0, 3.0), make_axis(14, 8.0, 3.0)))
    for patient, anatomy in anatomies:
        assert make_masks(anatomy, coarse)[2].any() == patient.cspca
