"""Shapes in mm: positions to sample at, ellipsoids, and the gland with its two zones. Origin: the gland's centre.

Axes as in LPS images: z towards the head, y towards the back, x towards the patient's left.
"""

from dataclasses import dataclass

import numpy as np

from prostafed.simulations.phantom.fields import Axes, FloatArray

Triple = tuple[float, float, float]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Points:
    """Where a grid samples the body. `y` may differ from its axis voxel by voxel (distortion), by less than `slack_mm`."""

    axes: Axes
    y: FloatArray  # (1, y, 1) or (z, y, x)
    slack_mm: float = 0.0

    @property
    def z(self) -> FloatArray:
        """Positions towards the head, (z, 1, 1)."""
        return self.axes[0][:, None, None]

    @property
    def x(self) -> FloatArray:
        """Positions towards the left, (1, 1, x)."""
        return self.axes[2][None, None, :]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (z, y, x)."""
        z, y, x = self.axes
        return z.size, y.size, x.size

    def around(self, center: Triple, reach: Triple) -> tuple[Region, "Points"]:
        """Return the block of voxels within `reach` of `center` and its positions; empty where the grid does not get there."""
        block = []
        for axis, middle, half, slack in zip(self.axes, center, reach, (0, self.slack_mm, 0), strict=True):
            first, last = np.searchsorted(axis, [middle - half - slack, middle + half + slack])
            block.append(slice(int(first), int(last)))
        z, y, x = block
        axes = (self.axes[0][z], self.axes[1][y], self.axes[2][x])
        inner = self.y[:, y, :] if self.y.shape[0] == 1 else self.y[z, y, x]
        return (z, y, x), Points(axes, inner, self.slack_mm)


def make_points(axes: Axes) -> Points:
    """Return the undistorted positions of a grid."""
    return Points(axes, axes[1][None, :, None])


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid, turned in the axial plane by `angle` (radians) and sheared by `lean` (y per z)."""

    center: Triple
    semi_axes: Triple
    angle: float = 0.0
    lean: float = 0.0

    @property
    def reach(self) -> Triple:
        """Half edges of a box that holds it."""
        z, y, x = self.semi_axes
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return (
            z,
            float(np.hypot(y * cosine, x * sine)) + abs(self.lean) * z,
            float(np.hypot(x * cosine, y * sine)),
        )

    def depth(self, points: Points) -> FloatArray:
        """Return about the mm inside the surface, (z, y, x); negative outside."""
        z = points.z - self.center[0]
        y = points.y - (self.center[1] + self.lean * z)
        x = points.x - self.center[2]
        if self.angle:
            cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
            y, x = y * cosine - x * sine, y * sine + x * cosine
        squares = [(offset * np.float32(1 / semi)) ** 2 for offset, semi in zip((z, y, x), self.semi_axes, strict=True)]
        radius = np.sqrt(squares[0] + squares[1] + squares[2])
        return (1 - radius) * np.float32(min(self.semi_axes))


@dataclass(frozen=True)
class Gland:
    """The prostate: an ellipsoid narrowed towards the apex, squared, flattened and notched at the back; TZ: two lobes in front."""

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


def ramp(depth_mm: FloatArray, width_mm: float) -> FloatArray:
    """Return the part of a voxel `width_mm` wide that lies inside a surface `depth_mm` away, in [0, 1]."""
    return np.clip(depth_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1)
