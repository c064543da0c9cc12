"""A training-ready generated case on the grid of the study file."""

from dataclasses import dataclass

import numpy as np

from prostafed.common.imaging.cases import GENERATED, MASKS, CaseRecord, Grid, Image, Masks
from prostafed.common.imaging.intensity import normalise
from prostafed.common.seeding import derive_seed
from prostafed.simulations.phantom.anatomy import Anatomy, draw_anatomy
from prostafed.simulations.phantom.fields import Axes, FloatArray, covering_axis, make_axes, resample
from prostafed.simulations.phantom.masks import make_masks
from prostafed.simulations.phantom.patient import Patient, draw_patient
from prostafed.simulations.phantom.protocol import Protocol, draw_protocol
from prostafed.simulations.phantom.readers import draw_reads
from prostafed.simulations.phantom.scanner import acquire_diffusion, acquire_t2w
from prostafed.simulations.phantom.settings import Readers, Scanner
from prostafed.simulations.phantom.shapes import make_points

SEQUENCES = ("t2w", "adc", "hbv")
MARGIN_MM = 4.0  # simulated around the study's box, so that interpolation has neighbours


@dataclass(frozen=True)
class GeneratedStudy:
    """One generated patient and one scan of it; images not yet made."""

    patient: Patient
    anatomy: Anatomy
    protocol: Protocol
    reads: tuple[int, ...]
    seed: int


def draw_study(seed: int, index: int, center: str, scanner: Scanner, readers: Readers) -> GeneratedStudy:
    """Return patient `index` of `seed` at `center`; scanner and readers change neither patient nor anatomy."""

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive_seed(seed, "phantom", center, index, purpose))

    patient = draw_patient(center, rng("patient"))
    return GeneratedStudy(
        patient=patient,
        anatomy=draw_anatomy(patient, rng("anatomy")),
        protocol=draw_protocol(scanner, center, rng("protocol")),
        reads=draw_reads(patient, readers, rng("reads")),
        seed=derive_seed(seed, "phantom", center, index, "scan"),
    )


def generate_case(
    seed: int, index: int, center: str, scanner: Scanner, readers: Readers, grid: Grid, sequences: tuple[str, ...]
) -> tuple[CaseRecord, Image, Masks]:
    """Return record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of case `index`, index >= 0.

    A pure function: equal arguments give equal bytes. Each sequence is acquired on the scanner's own grid around the
    study's box, resampled onto it and normalised. The lesion mask holds ISUP >= 2 only (PI-CAI's csPCa): lesions of
    lower ISUP, and mimics, are in the image alone. Raises ValueError for an unknown centre or sequence.
    """
    study = draw_study(seed, index, center, scanner, readers)
    axes = _study_axes(grid, study.seed)
    volumes = scan(study, axes, sequences)
    image = np.stack([normalise(volumes[name]) for name in sequences]).astype(np.float16)
    gland, zones, grades = make_masks(study.anatomy, make_points(axes))
    masks = np.stack([gland, zones, (grades > 0).astype(np.uint8)])
    return make_record(study, f"{center.lower()}-{derive_seed(seed) % 16**8:08x}-{index:05d}", sequences), image, masks


def scan(study: GeneratedStudy, target: Axes, sequences: tuple[str, ...]) -> dict[str, FloatArray]:
    """Return each sequence (z, y, x) on `target`: not normalised, ADC in 1e-6 mm2/s."""
    unknown = sorted(set(sequences) - set(SEQUENCES))
    if unknown or not sequences:
        raise ValueError(f"Unknown sequences {unknown}. Valid: {', '.join(SEQUENCES)}.")
    protocol, volumes = study.protocol, {}
    if "t2w" in sequences:
        rng = np.random.default_rng(derive_seed(study.seed, "t2w"))
        source = _cover(target, protocol.slice_mm, protocol.t2_in_plane_mm, rng)
        volumes["t2w"] = resample(acquire_t2w(study.anatomy, protocol, source, rng), source, target)
    if "adc" in sequences or "hbv" in sequences:
        rng = np.random.default_rng(derive_seed(study.seed, "dwi"))
        source = _cover(target, protocol.slice_mm, protocol.dwi_in_plane_mm, rng)
        adc, high_b = acquire_diffusion(study.anatomy, protocol, source, rng)
        volumes["adc"], volumes["hbv"] = resample(adc, source, target), resample(high_b, source, target)
    return volumes


def make_record(study: GeneratedStudy, case_id: str, sequences: tuple[str, ...]) -> CaseRecord:
    """Return what is known of the case; one case per patient."""
    patient, protocol = study.patient, study.protocol
    high_b = f"{'acquired' if protocol.high_b_acquired else 'computed'} b={protocol.high_b:.0f}"
    b_values = ", ".join(f"{b:.0f}" for b in protocol.b_values)
    sources = {"t2w": "generated", "adc": f"fitted b={b_values}", "hbv": high_b}
    return CaseRecord(
        case_id=case_id,
        patient_id=case_id,
        center=patient.center,
        pirads_reads=study.reads,
        cspca=patient.cspca,
        isup=patient.isup,
        age=patient.age,
        psa=patient.psa,
        prostate_volume=patient.reported_ml,
        masks=MASKS,
        sequences={name: sources[name] for name in sequences},
        source=GENERATED,
    )


def _study_axes(grid: Grid, seed: int) -> Axes:
    """The study's box, centred on the gland to within a few mm, as a hand-placed or T2-centred box is."""
    offsets = np.clip(np.random.default_rng(derive_seed(seed, "position")).normal(0, (2.0, 3.0, 2.0)), -6, 6)
    return make_axes(grid.size, grid.spacing_mm, offsets.tolist())


def _cover(target: Axes, slice_mm: float, in_plane_mm: float, rng: np.random.Generator) -> Axes:
    z, y, x = (
        covering_axis(axis, spacing, max(MARGIN_MM, spacing), float(rng.uniform()))
        for axis, spacing in zip(target, (slice_mm, in_plane_mm, in_plane_mm), strict=True)
    )
    return z, y, x
