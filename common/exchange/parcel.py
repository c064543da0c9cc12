"""The tensors of a message as one array on their way.

Flower makes two objects of every array, and each object is asked for by itself: a way to and fro, which a network of a
hundred tensors goes two hundred times. Whoever reads a message finds the arrays by name again, as they were packed.
"""

import re
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from prostafed.common.exchange.arrays import MOST_ARRAYS

TENSORS, LIST = "tensors", "parcel"  # records of a message: the arrays, and what is in the one that holds them all
_SHAPE = re.compile(r"(\d{1,15}(,\d{1,15}){0,15})?")


def merge(content: RecordDict) -> RecordDict:
    """Return `content` with one array in the place of its tensors; without any it is returned as it is."""
    arrays = content.array_records.get(TENSORS)
    if not arrays:
        return content
    listed = ConfigRecord(
        {
            "names": list(arrays),
            "dtypes": [array.dtype for array in arrays.values()],
            "shapes": [",".join(map(str, array.shape)) for array in arrays.values()],
            "lengths": [len(array.data) for array in arrays.values()],
        }
    )
    data = b"".join(array.data for array in arrays.values())
    whole = ArrayRecord({LIST: Array("uint8", (len(data),), LIST, data)})
    return RecordDict({**content, TENSORS: whole, LIST: listed})


def split(content: RecordDict) -> RecordDict:
    """Return `content` as it was before `merge`; raises ValueError where it cannot have been. The arrays themselves are
    for read_arrays to check.
    """
    if LIST not in content:
        return content
    listed = content.config_records[LIST]
    names, dtypes, shapes, lengths = (_read(listed, name) for name in ("names", "dtypes", "shapes", "lengths"))
    data = content.array_records[TENSORS][LIST].data
    sound = (
        len(names) == len(set(names)) == len(dtypes) == len(shapes) == len(lengths) <= MOST_ARRAYS
        and all(type(each) is str for each in (*names, *dtypes, *shapes))
        and all(type(each) is int and each >= 0 for each in lengths)
        and all(_SHAPE.fullmatch(shape) for shape in shapes)
        and sum(lengths) == len(data)
    )
    if not sound:
        raise ValueError("the list of tensors is not that of the tensors")
    arrays, start = {}, 0
    for name, dtype, shape, length in zip(names, dtypes, shapes, lengths, strict=True):
        numbers = tuple(int(number) for number in shape.split(",") if number)
        arrays[name] = Array(dtype, numbers, "numpy.ndarray", data[start : start + length])
        start += length
    others = {name: record for name, record in content.items() if name != LIST}
    return RecordDict({**others, TENSORS: ArrayRecord(arrays)})


def _read(listed: ConfigRecord, name: str) -> list[Any]:
    found = listed[name]
    if not isinstance(found, list):
        raise ValueError(name)
    return found
