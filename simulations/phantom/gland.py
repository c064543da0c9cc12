"""The gland: its shape and two zones, fitted to a volume and a TZ fraction."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from prostafed.simulations.phantom.centers import GLAND_EXTENT_MM
from prostafed.simulations.phantom.fields import FloatArray, make_axis
from prostafed.simulations.phantom.shapes import Points, Triple, make_points

Generator = np.random.Generator


@dataclass(frozen=True)
class Gland:
    """The prostate, an ellipsoid narrowed towards apex and front, flattened and notched behind; TZ: two lobes."""

    semi_axes: Triple
    lean: float
    taper: float
    notch: float
    skew: Triple  # small asymmetries: x with y, x with z, y with z
    tz_split: float  # half distance of the lobes' centres, in half widths
    tz_forward: float  # how far in front of the gland's centre they lie, in half depths
    tz_radius: float = 1.0  # where the TZ ends in the units of `tz_depth`; set from the TZ fraction

    @property
    def back_mm(self) -> float:
        """How far the gland reaches backwards in the midline."""
        return self.semi_axes[1] / (1.12 + 0.5 * self.notch)

    @property
    def reach(self) -> Triple:
        """Half edges of a box that holds it."""
        z, y, x = self.semi_axes
        return 1.2 * z, 1.2 * y + abs(self.lean) * z, 1.2 * x

    def depths(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return about the mm inside the gland's surface and inside the TZ's, (z, y, x) each; negative outside."""
        semi_z, semi_y, semi_x = (np.float32(semi) for semi in self.semi_axes)
        w = points.z / semi_z
        narrowing = 1 - np.float32(self.taper) * np.clip(-w, 0, 1.2)
        u = points.x / (semi_x * narrowing)
        v = (points.y - np.float32(self.lean) * points.z) / (semi_y * (0.5 + 0.5 * narrowing))
        across = u * u * (1 - np.float32(0.22) * v)  # narrower in front
        back = np.maximum(v, 0)
        v_flat = v + back * (np.float32(0.12) + np.float32(self.notch) * (np.float32(0.5) - across))
        along = v_flat * v_flat
        squared = across + along
        squared -= np.float32(0.15) * across * along / (squared + np.float32(1e-3))  # fuller corners
        xy, xz, yz = self.skew
        squared += w * w + np.float32(xy) * u * v + np.float32(xz) * u * w + np.float32(yz) * v * w
        gland = (1 - np.sqrt(np.maximum(squared, 0))) * np.float32(np.mean(self.semi_axes))
        lobe = np.maximum(np.abs(u) - np.float32(self.tz_split), 0) * np.float32(1.6)
        forward = (v + np.float32(self.tz_forward)) * np.float32(1.2)
        radius = np.sqrt(lobe * lobe + forward * forward + (w - np.float32(0.08)) ** 2)
        return gland, (np.float32(self.tz_radius) - radius) * np.float32(0.8 * np.mean(self.semi_axes))


@dataclass(frozen=True)
class Positions:
    """Positions inside the gland where something may lie, and how deep they are in gland and TZ."""

    positions: npt.NDArray[np.float32]  # (n, 3)
    gland_mm: FloatArray
    tz_mm: FloatArray

    def choose(self, weights: FloatArray, rng: Generator) -> Triple:
        """Return a position drawn with these weights; the deepest in the gland if all are 0."""
        total = float(weights.sum())
        index = rng.choice(weights.size, p=weights / total) if total > 0 else int(self.gland_mm.argmax())
        z, y, x = (float(value) for value in self.positions[index])
        return z, y, x


def draw_gland(rng: Generator) -> Gland:
    """Return a gland of about 1 ml with the proportions of PI-CAI masks; the TZ is not fitted yet."""
    z, y, x = (max(float(rng.normal(mean, deviation)), mean - 2 * deviation) for mean, deviation in GLAND_EXTENT_MM)
    skew = tuple(float(value) for value in rng.normal(0, 0.06, size=3))
    return Gland(
        semi_axes=(z / 2, y / 2, x / 2),
        lean=float(rng.normal(-0.15, 0.08)),
        taper=float(rng.uniform(0.15, 0.35)),
        notch=float(rng.uniform(0.0, 0.25)),
        skew=(skew[0], skew[1], skew[2]),
        tz_split=float(rng.uniform(0.15, 0.3)),
        tz_forward=float(rng.uniform(0.22, 0.36)),
    )


def fit_gland(gland: Gland, volume_ml: float, tz_fraction: float) -> tuple[Gland, Positions]:
    """Return the gland scaled to its volume, its TZ ended where it holds its share, and the sites in it."""
    axes = tuple(make_axis(25, 2 * reach / 24) for reach in gland.reach)
    voxel_ml = float(np.prod([axis[1] - axis[0] for axis in axes])) / 1000
    depth, tz_depth = gland.depths(make_points((axes[0], axes[1], axes[2])))
    inside = depth > 0
    scale = (volume_ml / (inside.sum() * voxel_ml)) ** (1 / 3)
    radii = gland.tz_radius - tz_depth[inside] / (0.8 * np.mean(gland.semi_axes))
    tz_radius = float(np.quantile(radii, tz_fraction))
    z, y, x = (semi * scale for semi in gland.semi_axes)
    fitted = replace(gland, semi_axes=(z, y, x), tz_radius=tz_radius)
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[inside] * scale
    return fitted, Positions(
        positions, depth[inside] * scale, ((tz_radius - radii) * 0.8 * (z + y + x) / 3).astype(np.float32)
    )
