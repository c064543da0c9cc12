"""Shapes in mm: positions to sample at, and ellipsoids. Origin: the gland's centre.

Axes as in LPS images: z towards the head, y towards the back, x towards the patient's left.
"""

from dataclasses import dataclass

import numpy as np

from prostafed.simulations.phantom.fields import Axes, FloatArray

Triple = tuple[float, float, float]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Points:
    """Where a grid samples the body. `y` may differ from its axis (distortion), by less than `slack_mm`."""

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
        """Return the block of voxels within `reach` of `center`, and its positions; empty where none is."""
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
        return (z, float(np.hypot(y * cosine, x * sine)) + abs(self.lean) * z, float(np.hypot(x * cosine, y * sine)))

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
        return np.asarray((1 - radius) * np.float32(min(self.semi_axes)), dtype=np.float32)


def ramp(depth_mm: FloatArray, width_mm: float) -> FloatArray:
    """Return the part of a voxel `width_mm` wide that lies inside a surface `depth_mm` away, in [0, 1]."""
    return np.asarray(np.clip(depth_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1), dtype=np.float32)
