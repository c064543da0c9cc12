"""Connected components of a 3D mask, in numpy."""

import numpy as np
import numpy.typing as npt

BoolVolume = npt.NDArray[np.bool_]
LabelVolume = npt.NDArray[np.int32]


def label_components(mask: BoolVolume) -> tuple[LabelVolume, int]:
    """Return labels (z, y, x), 0 outside the mask and 1.. inside, and their number; 26 neighbours.

    Numbered by the first voxel in (z, y, x) order, as `scipy.ndimage.label` with a full 3 x 3 x 3 structure does. Works
    on runs of voxels along x: runs in neighbouring rows touch where they overlap after one grows a voxel on both ends.
    """
    labels = np.zeros(mask.shape, dtype=np.int32)
    depth, rows, columns = mask.shape
    # One empty column per row and one empty row per slice: no run touches the wrong row across an edge.
    padded = np.zeros((depth, rows + 1, columns + 1), dtype=np.int8)
    padded[:, :rows, :columns] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))  # the last voxel is padding, so each run ends
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    if not starts.size:
        return labels, 0
    row, plane = columns + 1, (rows + 1) * (columns + 1)
    pairs = [_touching(starts, ends, offset) for offset in (row, plane - row, plane, plane + row)]
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    roots = _join(starts.size, first, second)
    found, numbered = np.unique(roots, return_inverse=True)
    labels[mask] = np.repeat(numbered + 1, ends - starts)
    return labels, int(found.size)


def largest_component(mask: BoolVolume) -> BoolVolume:
    """Return the voxels of the largest 26-connected component of `mask`, the first of equals; none of an empty mask."""
    labels, count = label_components(mask)
    return labels == 1 + np.argmax(np.bincount(labels[mask] - 1)) if count else mask.copy()


def grow(mask: BoolVolume) -> BoolVolume:
    """Return the mask grown by one voxel in all 26 directions."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        source = grown.copy()
        to, back = np.moveaxis(grown, axis, 0), np.moveaxis(source, axis, 0)
        to[1:] |= back[:-1]
        to[:-1] |= back[1:]
    return grown


def _touching(
    starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], offset: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the pairs (run, earlier run) that touch, the earlier one in the row `offset` positions before."""
    first = np.searchsorted(ends, starts - 1 - offset, side="right")
    beyond = np.searchsorted(starts, ends + 1 - offset, side="left")
    counts = np.maximum(beyond - first, 0)
    run = np.repeat(np.arange(starts.size), counts)
    within = np.arange(run.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return run, np.repeat(first, counts) + within


def _join(size: int, first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the lowest member of each item's set, after joining the pairs (Shiloach & Vishkin 1982)."""
    parent = np.arange(size)
    while True:
        one, other = parent[first], parent[second]
        apart = one != other
        if not apart.any():
            return parent
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(parent, grandparent := parent[parent]):
            parent = grandparent
