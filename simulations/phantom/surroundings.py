"""What lies around the gland: pelvic wall, bones, bladder, vessels, rectum; painted in this order, one over another."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prostafed.simulations.phantom.shapes import Ellipsoid, Triple
from prostafed.simulations.phantom.tissue import TISSUES, Tissue, mix

Generator = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A piece of tissue: `weight` is how much of what lies below it hides; a rim is painted around it first."""

    tissue: Tissue
    shape: Ellipsoid
    zone: Literal["", "gland", "TZ"] = ""  # clipped to; "" = not clipped
    weight: float = 1.0
    rim: Tissue | None = None
    rim_mm: float = 0.0
    hollow: bool = False  # only a shell, `rim_mm` thick, outside the shape
    roughness_mm: float = 0.0  # of its surface, by the coarse texture

    def reach(self, more_mm: float) -> Triple:
        """Half edges of a box that holds it, its rim and roughness, and `more_mm`."""
        more = self.rim_mm + more_mm + 2.5 * self.roughness_mm
        thin = min(self.shape.semi_axes)  # along longer axes a depth of `more` mm lies further out
        z, y, x = (reach * (1 + more / thin) for reach in self.shape.reach)
        return z, y, x


def draw_surroundings(
    gland: Triple, back_mm: float, lean: float, rng: Generator
) -> tuple[tuple[Part, ...], Ellipsoid, float]:
    """Return the parts, the rectum's content and how much of it is gas (0-1); `gland` are its semi-axes, in mm.

    `back_mm` is how far the gland reaches backwards, `lean` its y per z: the rectum follows it.
    """
    rectum, gas = _draw_rectum(back_mm, lean, rng)
    size = float(np.exp(rng.normal(0, 0.05)))  # of the pelvis
    parts = [
        *_draw_walls(gland, size, rng),
        _draw_bladder(gland, rng),
        *_draw_vesicles(gland, rng),
        *_draw_vessels(gland, rng),
        rectum,
    ]
    return tuple(parts), rectum.shape, gas


def _draw_walls(gland: Triple, size: float, rng: Generator) -> list[Part]:
    """Muscles and bones, left and right alike."""
    muscle, marrow, cortex = (TISSUES[name] for name in ("muscle", "marrow", "cortex"))
    half_z, half_y, half_x = gland
    wall = max(52 * size, half_x + 14)
    levator = Ellipsoid((-half_z - 8, half_y * 0.95, 0.0), (half_z + 24, half_y + 20, half_x + 6))
    front = -half_y - 26 * size
    parts = [
        Part(muscle, Ellipsoid((30, front - 36, 0), (90, 9, 60))),  # rectus
        Part(muscle, levator, weight=0.8, rim_mm=2.2, roughness_mm=0.8, hollow=True),
    ]
    for side in (-1, 1):
        x, turn = side * wall, side * float(rng.normal(0.12, 0.05))
        vessel_y, vessel_x = front + float(rng.normal(2, 4)), side * (wall + float(rng.normal(6, 4)))
        parts += [
            Part(marrow, Ellipsoid((22, -8, side * (wall + 43)), (27, 25, 25)), rim=cortex, rim_mm=2.0),  # femoral head
            Part(
                marrow, Ellipsoid((28, 10, side * (wall + 17)), (40, 42, 9), turn), rim=cortex, rim_mm=1.8
            ),  # acetabulum
            Part(
                marrow, Ellipsoid((-22, 36, side * (wall + 13)), (30, 18, 11), turn), rim=cortex, rim_mm=1.8
            ),  # ischium
            Part(muscle, Ellipsoid((0, 8, x), (60, 42, 10), turn), roughness_mm=0.9),  # obturator internus
            Part(
                muscle, Ellipsoid((-30, -24, side * (wall + 12)), (32, 30, 16), side * 0.6), roughness_mm=0.9
            ),  # externus
            Part(muscle, Ellipsoid((10, 84, side * 58), (90, 22, 46), side * -0.45), roughness_mm=2.0),  # gluteus
            Part(
                marrow, Ellipsoid((-20, front + 2, side * 24), (19, 12, 22), side * 0.35), rim=cortex, rim_mm=2.0
            ),  # pubis
            Part(
                TISSUES["flow_void"], Ellipsoid((20, vessel_y, vessel_x), (80, 4.5, 4.5), lean=-0.4)
            ),  # external iliac artery
            Part(
                TISSUES["vessel"], Ellipsoid((20, vessel_y + 9, vessel_x - 3 * side), (80, 5, 6), lean=-0.4), weight=0.6
            ),  # and vein
        ]
    parts.append(Part(marrow, Ellipsoid((34, 88, 0), (34, 9, 15)), rim=cortex, rim_mm=1.5))  # sacrum, coccyx
    return parts


def _draw_bladder(gland: Triple, rng: Generator) -> Part:
    fill = float(rng.uniform(0.7, 1.35))
    half_z, half_y, _ = gland
    shape = Ellipsoid(
        (half_z + 19 * fill + 1, -0.35 * half_y - 3 * fill, float(rng.normal(0, 3))),
        (20 * fill + 4, 25 * fill, 32 * fill),
        lean=-0.15,
    )
    return Part(TISSUES["urine"], shape, rim=TISSUES["bladder_wall"], rim_mm=4.8 - 1.6 * fill)


def _draw_vesicles(gland: Triple, rng: Generator) -> list[Part]:
    half_z, half_y, _ = gland
    vesicles = []
    for side in (-1, 1):
        for step in range(4):  # a string of tubules
            center = (half_z + 1 + 2.5 * step, half_y * 0.75 + float(rng.normal(0, 1.5)), side * (6 + 6.5 * step))
            semi = (float(rng.uniform(3, 6)), float(rng.uniform(2.5, 4.5)), float(rng.uniform(3, 6)))
            tissue = mix(TISSUES["seminal_vesicle"], TISSUES["stroma"], float(rng.uniform(0, 0.5)))
            vesicles.append(Part(tissue, Ellipsoid(center, semi), rim=TISSUES["capsule"], rim_mm=0.7, weight=0.9))
    return vesicles


def _draw_vessels(gland: Triple, rng: Generator) -> list[Part]:
    """Veins and nerve bundles around the gland, bright and dark."""
    half_z, half_y, half_x = gland
    vessels = []
    for _ in range(36):
        angle, height, away = rng.uniform(0, 2 * np.pi), rng.uniform(-0.9, 0.9), rng.uniform(1.05, 1.3)
        narrowing = away * np.sqrt(1 - 0.6 * height**2)
        center = (
            float(height * half_z),
            float(np.sin(angle) * half_y * narrowing - 0.15 * height * half_z),
            float(np.cos(angle) * half_x * narrowing),
        )
        radius = float(rng.uniform(0.9, 2.6))
        tissue = TISSUES["vessel"] if rng.uniform() < 0.55 else TISSUES["muscle"]
        shape = Ellipsoid(center, (float(rng.uniform(3, 9)), radius, radius * float(rng.uniform(0.7, 1.8))), angle)
        vessels.append(Part(tissue, shape, weight=float(rng.uniform(0.4, 0.9))))
    return vessels


def _draw_rectum(back_mm: float, lean: float, rng: Generator) -> tuple[Part, float]:
    content = str(rng.choice(["gas", "stool", "gel", "empty"], p=[0.4, 0.3, 0.1, 0.2]))
    width, depth = (
        (rng.uniform(7, 11), rng.uniform(4, 7)) if content == "empty" else (rng.uniform(13, 22), rng.uniform(10, 17))
    )
    wall = float(rng.uniform(2.4, 3.8))
    shape = Ellipsoid(
        (0.0, back_mm + float(depth) + wall + 0.5, float(rng.normal(0, 2.5))),
        (85.0, float(depth), float(width)),
        lean=0.6 * lean,
    )
    tissue = TISSUES["air" if content == "gas" else "rectal_wall" if content == "empty" else content]
    gas = {"gas": float(rng.uniform(0.6, 1.0)), "stool": 0.25}.get(content, 0.08)
    return Part(tissue, shape, rim=TISSUES["rectal_wall"], rim_mm=wall, roughness_mm=0.9), gas
