"""series_map.csv: which series a person wants used as what, by pseudonym; written beside the index, filled by hand."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from prostafed.client.ingest.images.candidates import CHOSEN
from prostafed.client.ingest.records import DicomStudy, Kind, Series
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.shell.tables import write_table

COLUMNS = ("case_id", "series", "kind", "plane", "slices", "b_values", "use_as")
USES: dict[str, Kind] = {"t2w": "t2w", "adc": "adc", "dwi": "dwi", "hbv": "hbv_calc", "ignore": "other"}

Uses = Mapping[str, str]  # pseudonym of a series -> one of USES


def name_series(secret: bytes, series: Series) -> str:
    """Return the pseudonym of a series: of its UID, ImageType and EchoTime, and of its part where they have several."""
    parts = (series.uid, "\\".join(series.header.image_type), str(series.header.echo_time_ms), series.part)
    return make_pseudonym(secret, "series", "\0".join(parts if series.part else parts[:-1]))


def apply_uses(study: DicomStudy, uses: Uses, secret: bytes) -> DicomStudy:
    """Return the study with the kinds a person chose in place of those its headers suggest."""

    def choose(each: Series) -> Series:
        use = uses.get(name_series(secret, each))
        return each if use is None else replace(each, kind=USES[use], reason=CHOSEN)

    return replace(study, series=tuple(choose(each) for each in study.series)) if uses else study


def read_uses(path: Path) -> dict[str, str]:
    """Return what series_map.csv says, series -> use; raises ConfigurationError for a file that is not one."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path} as UTF-8 text. Save it as CSV (UTF-8).") from error
    if missing := {"series", "use_as"} - set(reader.fieldnames or ()):
        raise ConfigurationError(
            f"{path}: expected the columns {', '.join(COLUMNS)} separated by commas, found no "
            f"{' and no '.join(sorted(missing))}. Delete the file and index again to get a new one."
        )
    uses: dict[str, str] = {}
    for row in reader:
        series, use = (row["series"] or "").strip(), (row["use_as"] or "").strip().lower()
        where = f"{path}: line {reader.line_num}"
        if use and use not in USES:
            raise ConfigurationError(f"{where}, column use_as: unknown '{use}'{nearest(use, USES)}")
        if use and uses.setdefault(series, use) != use:
            raise ConfigurationError(f"{where}: this series has another use above. Keep one.")
    return uses


def write_series_map(path: Path, rows: Iterable[Mapping[str, str]], uses: Uses) -> None:
    """Write the rows of a site, with the uses a person has chosen, atomically."""
    write_table(path, COLUMNS, ({**row, "use_as": uses.get(row["series"], "")} for row in rows))
