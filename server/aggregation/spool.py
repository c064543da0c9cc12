"""The replies of a round on disk, for rules that need all of them at once.

Each reply is written as it arrives, one file per site in a temporary folder (TMPDIR chooses where; it takes sites x
model), and read back block by block, rows in the order of the sites' names: what is in memory at once is BLOCK_VALUES
values in float64 and a few temporaries of that size, about 50 MB, however many sites and parameters there are. The
folder goes when the spool is closed or dropped; a process that is killed leaves it behind.
"""

import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prostafed.common.errors import RoundError, StorageError
from prostafed.common.shell.files import filling, make_scratch
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Float64, Update, select_floating
from prostafed.server.exchange.admission import RejectedError

BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class Rows:
    """One block of one tensor at every site that sent it: `values` (sites, block) in float64, `sites` their names."""

    name: str
    block: slice
    sites: tuple[str, ...]
    values: Float64


class Spool:
    """The folder and what it holds; the one thing in server/aggregation that has a state of its own."""

    def __init__(self, tensors: Tensors) -> None:
        self._layout = select_floating(tensors)
        self._folder = make_scratch("prostafed-replies-")
        self._replies: dict[str, tuple[Path, dict[str, int]]] = {}  # site -> file, where in it each tensor starts
        self.close = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites whose replies are held, sorted."""
        return tuple(sorted(self._replies))

    def add(self, update: Update) -> None:
        """Write the floating tensors of a reply. Raises RejectedError for a second reply of a site, RoundError where
        the disk does not take it.
        """
        if update.site in self._replies:
            raise RejectedError("SAME_NAME", f"{update.site} has answered in this round already")
        path, offsets = self._folder / f"{len(self._replies)}.reply", {}  # a site's name is no file name
        try:
            with filling(path) as file:
                for name in self._layout:
                    if name in update.tensors:
                        offsets[name] = file.tell()
                        file.write(update.tensors[name].astype(self._layout[name].dtype, order="C", copy=False).data)
        except StorageError as error:
            raise RoundError(
                f"The reply of {update.site} could not be kept. {error} Or set TMPDIR to a folder with room for as "
                "many copies of the model as there are sites, then resume."
            ) from error
        self._replies[update.site] = (path, offsets)

    def read(self, names: tuple[str, ...] | None = None) -> Iterator[Rows]:
        """Yield the blocks of every tensor, or of `names`, that a site sent; tensors in order of name."""
        for name in self._layout if names is None else names:
            files = [(site, *self._replies[site]) for site in self.sites if name in self._replies[site][1]]
            dtype, size = self._layout[name].dtype, self._layout[name].size
            length = max(1, BLOCK_VALUES // max(1, len(files)))
            for start in range(0, size if files else 0, length):
                block = slice(start, min(start + length, size))
                values = np.empty((len(files), block.stop - block.start))
                for row, (_, path, offsets) in enumerate(files):
                    offset = offsets[name] + start * dtype.itemsize
                    values[row] = np.fromfile(path, dtype, block.stop - block.start, offset=offset)
                yield Rows(name, block, tuple(site for site, _, _ in files), values)

    def common(self) -> tuple[str, ...]:
        """Return the names of the tensors that every site sent."""
        return tuple(name for name in self._layout if all(name in offsets for _, offsets in self._replies.values()))
