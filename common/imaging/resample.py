"""Resampling onto a box: the grid of a study laid in the patient, in millimetres LPS. Each image is interpolated once.

SimpleITK orders axes and points (x, y, z); arrays here are (z, y, x) as everywhere. A box is a SimpleITK image whose
voxels are never read: it carries origin, spacing, axes and size.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from prostafed.common.imaging.cases import Grid

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Point = tuple[float, float, float]  # (x, y, z) in mm, LPS: x grows to the left, y to the back, z to the head

_MARGIN = 8  # voxels kept around a box: what lies further changes a cubic B-spline by less than 1e-4 of its value


def lay_box(reference: sitk.Image, grid: Grid, center_mm: Point) -> sitk.Image:
    """Return the box of `grid` on the axes of `reference`, centred at `center_mm`.

    Axes are permuted and flipped to the nearest patient axes (x left, y back, z head), so that a scan stored feet first
    and one stored head first come out alike.
    """
    axes = np.array(sitk.DICOMOrient(reference, "LPS").GetDirection()).reshape(3, 3)
    spacing = np.array(grid.spacing_mm[::-1])
    size = np.array(grid.size[::-1])
    origin = np.array(center_mm) - axes @ ((size - 1) / 2 * spacing)
    box = sitk.Image(size.tolist(), sitk.sitkUInt8)
    box.SetSpacing(spacing.tolist())
    box.SetOrigin(origin.tolist())
    box.SetDirection(axes.ravel().tolist())
    return box


def settle_center(wanted_mm: Point | None, reference: sitk.Image, grid: Grid) -> Point:
    """Return where to centre the box of `grid`: near `wanted_mm`, or near the centre of `reference`.

    The box stays on `reference`: it is moved back by what it would stick out; along an axis on which `reference` is the
    shorter of the two, to its centre. A crop on a gland at the edge, or on a gland mask with a stray blob, then holds
    as many acquired slices as a crop on the middle. Last, it is moved by up to half a voxel of `reference`, so that its
    first voxel lies on one: with equal spacings nothing is interpolated (else 19 slices under a box of 20 would all be
    mixed with their neighbours, and the two at the ends lost).
    """
    oriented = sitk.DICOMOrient(reference, "LPS")
    size, step = np.array(oriented.GetSize()), np.array(grid.spacing_mm[::-1]) / np.array(oriented.GetSpacing())
    middle = (size - 1) / 2
    wanted = middle if wanted_mm is None else np.array(oriented.TransformPhysicalPointToContinuousIndex(wanted_mm))
    slack = np.maximum((size - np.array(grid.size[::-1]) * step) / 2, 0)
    center = np.clip(wanted, middle - slack, middle + slack)
    # Half a voxel is a tie that rounding in a header must not decide: two copies of one study would lie a slice apart.
    first = center - (np.array(grid.size[::-1]) - 1) / 2 * step
    shift = np.round(np.round(first, 4)) - first
    x, y, z = oriented.TransformContinuousIndexToPhysicalPoint((center + shift).tolist())
    return x, y, z


def covered(box: sitk.Image, image: sitk.Image) -> BoolArray:
    """Return which voxel centres of `box` lie within `image`, (z, y, x)."""
    to_index = np.linalg.inv(_voxel_axes(image))
    step = to_index @ _voxel_axes(box)
    start = to_index @ (np.array(box.GetOrigin()) - np.array(image.GetOrigin()))
    i, j, k = (np.arange(size, dtype=np.float64) for size in box.GetSize())
    inside = np.ones(box.GetSize()[::-1], dtype=np.bool_)
    for axis, size in enumerate(image.GetSize()):
        in_plane = step[axis, 1] * j[:, None] + step[axis, 0] * i[None, :]
        position = (start[axis] + step[axis, 2] * k)[:, None, None] + in_plane
        inside &= (position > -0.5 + 1e-3) & (position < size - 0.5 - 1e-3)
    return inside


def resample(image: sitk.Image, box: sitk.Image, spline: bool) -> Float32Array:
    """Return `image` on `box`, (z, y, x) float32: linear, or cubic B-spline clamped to the range of the input.

    Along axes on which the box is the coarser, the image is first smoothed to the resolution of the box: a Gaussian
    whose full width at half maximum, added in squares to the image's voxel, gives the box's (Cardoso et al. 2015,
    "Scale factor point spread function matching"). Otherwise each voxel would be one noisy sample, and noisier from the
    scanner with the finer pixels. What stands outside `image` means nothing; see `covered`.
    """
    part = _smooth(sitk.Cast(_crop(image, box), sitk.sitkFloat32), box)
    if not spline:
        return _interpolate(part, box, sitk.sitkLinear)
    acquired = sitk.GetArrayViewFromImage(part)  # a cubic B-spline overshoots its range at edges
    return np.clip(_interpolate(part, box, sitk.sitkBSpline), acquired.min(), acquired.max())


def resample_labels(mask: sitk.Image, box: sitk.Image) -> npt.NDArray[np.uint8]:
    """Return a label image on `box`, (z, y, x) uint8: linear per label.

    A voxel is foreground where the labels together reach 0.5, and takes the strongest of them: between two labels that
    touch no gap opens.
    """
    labels = np.zeros(box.GetSize()[::-1], dtype=np.uint8)
    part = crop_to_foreground(mask)
    if part is None:
        return labels
    values = sitk.GetArrayViewFromImage(part)
    strongest = np.zeros(labels.shape, dtype=np.float32)
    together = np.zeros(labels.shape, dtype=np.float32)
    for label in np.unique(values[values != 0]).tolist():
        share = _interpolate(sitk.Cast(part == label, sitk.sitkFloat32), box, sitk.sitkLinear)
        labels[share > strongest] = label
        np.maximum(strongest, share, out=strongest)
        together += share
    labels[together < 0.5] = 0
    return labels


def crop_to_foreground(mask: sitk.Image) -> sitk.Image | None:
    """Return the part of `mask` that holds its non-zero voxels and one voxel around them; None where all are zero."""
    foreground = sitk.GetArrayViewFromImage(mask) != 0
    planes = [np.flatnonzero(foreground.any(axis=others)) for others in ((0, 1), (0, 2), (1, 2))]
    if not planes[0].size:
        return None
    lower = np.array([plane[0] - 1 for plane in planes])
    upper = np.array([plane[-1] + 2 for plane in planes])
    return _cut(mask, lower, upper)


def as_image(values: npt.NDArray[Any], grid: sitk.Image) -> sitk.Image:
    """Return an array (z, y, x) as an image that lies where `grid` does."""
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(grid)
    return image


def _interpolate(image: sitk.Image, box: sitk.Image, interpolator: int) -> Float32Array:
    values: Float32Array = sitk.GetArrayFromImage(
        sitk.Resample(image, box, sitk.Transform(), interpolator, 0.0, sitk.sitkFloat32)
    )
    return values


def _smooth(image: sitk.Image, box: sitk.Image) -> sitk.Image:
    cosines = np.array(image.GetDirection()).reshape(3, 3).T @ np.array(box.GetDirection()).reshape(3, 3)
    aimed = np.array(box.GetSpacing())[np.abs(cosines).argmax(axis=1)]  # the box's spacing along each image axis
    own = np.array(image.GetSpacing())
    if np.all(aimed <= 1.01 * own):
        return image
    variance = np.maximum(aimed**2 - own**2, 0) / (8 * np.log(2))
    return sitk.DiscreteGaussian(image, variance.tolist(), useImageSpacing=True)


def _voxel_axes(image: sitk.Image) -> npt.NDArray[np.float64]:
    axes = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    return np.asarray(axes * np.array(image.GetSpacing()), dtype=np.float64)


def _crop(image: sitk.Image, box: sitk.Image) -> sitk.Image:
    """Return the part of `image` that `box` touches, with a margin; all of it where they do not meet."""
    last = np.array(box.GetSize()) - 1
    points = [box.TransformIndexToPhysicalPoint((last * side).tolist()) for side in np.ndindex(2, 2, 2)]
    indices = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
    lower, upper = np.floor(indices.min(axis=0)) - _MARGIN, np.ceil(indices.max(axis=0)) + _MARGIN + 1
    return _cut(image, lower.astype(int), upper.astype(int))


def _cut(image: sitk.Image, lower: npt.NDArray[np.int_], upper: npt.NDArray[np.int_]) -> sitk.Image:
    lower, upper = np.maximum(lower, 0), np.minimum(upper, image.GetSize())
    if np.any(upper <= lower):
        return image
    return sitk.RegionOfInterest(image, (upper - lower).tolist(), lower.tolist())
