"""Messages as somebody would send them who does not keep to the form."""

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict


def declare(content: RecordDict, name: str, dtype: str, shape: str, data: bytes = b"") -> RecordDict:
    """Declare a tensor beside those of a message, or in the place of the one of that name, and add its bytes."""
    layout = content.config_records["layout"]
    names = [str(each) for each in layout["names"]]  # type: ignore[union-attr]
    dtypes, shapes = list(layout["dtypes"]), list(layout["shapes"])  # type: ignore[arg-type]
    if name in names:
        place = names.index(name)
        dtypes[place], shapes[place] = dtype, shape
    else:
        names, dtypes, shapes = [*names, name], [*dtypes, dtype], [*shapes, shape]
    content["layout"] = ConfigRecord({"names": names, "dtypes": dtypes, "shapes": shapes})
    held = b"".join(array.data for array in content.array_records["tensors"].values())
    return replace_bytes(content, held + data)


def replace_bytes(content: RecordDict, data: bytes, stype: str = "bytes") -> RecordDict:
    """Let a message hold these bytes."""
    content["tensors"] = ArrayRecord({"content": Array("uint8", (len(data),), stype, data)})
    return content
