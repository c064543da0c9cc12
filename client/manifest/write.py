"""The empty tables of a manifest."""

from pathlib import Path

from prostafed.client.manifest.rows import TABLES
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import write_table


def create_tables(folder: Path) -> None:
    """Write those of the three tables that are missing in `folder`, with their columns and no line."""
    make_folder(folder)
    for name, model in TABLES.items():
        if not (folder / name).exists():
            write_table(folder / name, tuple(model.model_fields), ())
