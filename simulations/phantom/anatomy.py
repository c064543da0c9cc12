"""One patient's pelvis: the gland with its zones, nodules, mimics and lesions, drawn to fit the patient's facts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prostafed.simulations.phantom.fields import Field, FloatArray, draw_field
from prostafed.simulations.phantom.gland import Gland, Positions, draw_gland, fit_gland
from prostafed.simulations.phantom.patient import Patient, PhantomLesion
from prostafed.simulations.phantom.shapes import Ellipsoid, Points
from prostafed.simulations.phantom.surroundings import Part, draw_surroundings
from prostafed.simulations.phantom.tissue import TISSUES, Tissue, mix, vary

Generator = np.random.Generator


@dataclass(frozen=True)
class Lesion:
    """A lesion in the images, and its grade."""

    part: Part
    isup: int


@dataclass(frozen=True)
class Anatomy:
    """Everything the scanner can see. `inside` is painted in order within the gland, lesions last."""

    gland: Gland
    tissues: Mapping[str, Tissue]
    surroundings: tuple[Part, ...]
    inside: tuple[Part, ...]
    lesions: tuple[Lesion, ...]
    rectum: Ellipsoid
    gas: float  # of the rectum, 0-1
    fine: Field  # texture within the gland
    coarse: Field  # texture everywhere, and the roughness of surfaces

    def depth_of(self, part: Part, points: Points) -> FloatArray:
        """Return about the mm inside the part's surface, (z, y, x); negative outside."""
        depth = part.shape.depth(points)
        return depth + self.coarse.sample(points.axes) * np.float32(part.roughness_mm) if part.roughness_mm else depth


def draw_anatomy(patient: Patient, rng: Generator) -> Anatomy:
    """Return the anatomy of `patient`; gland volume and TZ fraction are met to about 1 %."""
    gland, sites = fit_gland(draw_gland(rng), patient.gland_ml, patient.tz_fraction)
    tissues = dict(TISSUES)
    tissues["pz"] = vary(TISSUES["pz"], rng, 0.22, 0.09)
    tissues["tz"] = vary(TISSUES["tz"], rng, 0.12, 0.07)
    surroundings, rectum, gas = draw_surroundings(gland.semi_axes, gland.back_mm, gland.lean, rng)
    inside = (*_draw_nodules(gland, sites, patient, rng), *_draw_fixed(gland, tissues, rng), *_draw_mimics(sites, rng))
    return Anatomy(
        gland=gland,
        tissues=tissues,
        surroundings=surroundings,
        inside=inside,
        lesions=tuple(_draw_lesion(finding, sites, rng) for finding in patient.findings),
        rectum=rectum,
        gas=gas,
        fine=draw_field(rng, gland.reach, (3.0, 1.7, 1.7)),
        coarse=draw_field(rng, (60.0, 110.0, 110.0), (8.0, 5.0, 5.0)),
    )


def _draw_nodules(gland: Gland, sites: Positions, patient: Patient, rng: Generator) -> list[Part]:
    """BPH: round, rimmed, glandular (bright) to stromal (dark, low ADC: the classic mimic)."""
    largest = 0.34 * float(np.mean(gland.semi_axes))
    count = min(3 + int(rng.poisson(patient.gland_ml * patient.tz_fraction / 5)), 24)
    weights = np.maximum(sites.tz_mm, 0)
    nodules = []
    for _ in range(count):
        radius = float(np.clip(np.exp(rng.normal(np.log(4.2), 0.4)), 1.8, largest))
        semi = radius * np.exp(rng.normal(0, 0.15, size=3))
        stromal = float(np.clip(rng.beta(0.9, 0.9), 0, 1))
        tissue = mix(Tissue(165.0, 0.88, 1620.0), Tissue(54.0, 0.85, 930.0), stromal)
        shape = Ellipsoid(
            sites.choose(weights, rng), (float(semi[0]), float(semi[1]), float(semi[2])), rng.uniform(-0.6, 0.6)
        )
        nodules.append(
            Part(tissue, shape, zone="TZ", weight=float(rng.uniform(0.45, 0.85)), rim=TISSUES["capsule"], rim_mm=0.8)
        )
    return nodules


def _draw_fixed(gland: Gland, tissues: Mapping[str, Tissue], rng: Generator) -> list[Part]:
    """The stroma in front, the central zone at the base behind (dark on both sides), and the urethra."""
    z, y, x = gland.semi_axes
    front = Ellipsoid(
        (0.1 * z, -0.98 * y, 0.0), (0.9 * z, float(rng.uniform(0.2, 0.38)) * y, float(rng.uniform(0.4, 0.6)) * x)
    )
    size = float(rng.uniform(0.7, 1.15))
    sides = [
        Ellipsoid((0.72 * z, 0.5 * y, side * 0.24 * x), (0.34 * z * size, 0.26 * y * size, 0.26 * x * size), side * 0.3)
        for side in (-1, 1)
    ]
    urethra = Ellipsoid((-0.35 * z, 0.05 * y, 0.0), (0.6 * z, 2.6, 2.2), lean=-0.1)
    return [
        Part(tissues["stroma"], front, zone="gland", weight=0.85, roughness_mm=1.2),
        *[
            Part(tissues["cz"], side, zone="gland", weight=float(rng.uniform(0.4, 0.9)), roughness_mm=0.8)
            for side in sides
        ],
        Part(tissues["urethra"], urethra, zone="gland", weight=0.7, rim=tissues["stroma"], rim_mm=1.0),
    ]


def _draw_mimics(sites: Positions, rng: Generator) -> list[Part]:
    """Inflammation and bleeding after biopsy: dark on T2W, ADC lowered, seldom as far as in cancer."""
    weights = np.where(sites.tz_mm < 0, 1.0, 0.15).astype(np.float32)
    mimics = []
    for _ in range(int(rng.poisson(1.7))):
        thickness = float(np.clip(np.exp(rng.normal(np.log(3.2), 0.35)), 1.5, 8))
        semi = (thickness * float(rng.uniform(0.9, 2.0)), thickness * float(rng.uniform(1.2, 2.8)), thickness)
        bleeding = rng.uniform() < 0.2
        tissue = Tissue(60.0, 0.82, 1250.0) if bleeding else Tissue(74.0, 0.86, 760.0)
        shape = Ellipsoid(sites.choose(weights, rng), semi, float(rng.uniform(-1.2, 1.2)))
        weight = float(rng.uniform(0.3, 0.8) if bleeding else np.clip(rng.normal(0.36, 0.15), 0.08, 0.75))
        mimics.append(Part(tissue, shape, zone="gland", weight=weight, roughness_mm=0.35 * thickness))
    return mimics


def _draw_lesion(finding: PhantomLesion, sites: Positions, rng: Generator) -> Lesion:
    radius = (finding.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    aspect = np.exp(rng.normal(0, 0.18, size=3))
    semi = radius * aspect / np.cbrt(aspect.prod())
    in_zone = sites.tz_mm < 0 if finding.zone == "PZ" else sites.tz_mm > 0
    fits = np.clip(sites.gland_mm / radius, 0, 1) * np.clip(np.abs(sites.tz_mm) / radius, 0, 1)
    if finding.zone == "PZ":
        fits = fits * (sites.positions[:, 1] > 0.0)
    shape = Ellipsoid(
        sites.choose(np.where(in_zone, fits, 0), rng),
        (float(semi[0]), float(semi[1]), float(semi[2])),
        float(rng.uniform(-1.2, 1.2)),
    )
    tissue = vary(TISSUES["cancer"], rng, 0.1, 0.1)
    part = Part(tissue, shape, zone="gland", weight=finding.conspicuity, roughness_mm=0.22 * float(radius))
    return Lesion(part, finding.isup)
