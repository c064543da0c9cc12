from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.client.ingest.images.candidates import CHOSEN
from prostafed.client.ingest.records import DicomStudy
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.ingest.series_map import COLUMNS, apply_uses, name_series, read_uses, write_series_map
from prostafed.common.errors import ConfigurationError
from tests.client.ingest.tiny_study import make_study, save_study

SECRET = b"s" * 32


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> DicomStudy:
    folder = tmp_path_factory.mktemp("study")
    save_study(make_study(), folder)
    (study,), _ = read_studies(folder)
    return study


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join((",".join(COLUMNS), *lines)))
    return path


def test_a_series_has_a_pseudonym_of_its_own(study: DicomStudy) -> None:
    names = {name_series(SECRET, each) for each in study.series}
    assert len(names) == len(study.series) == 4
    assert not names & {name_series(b"other" * 7, each) for each in study.series}
    first = study.series[0]
    assert name_series(SECRET, replace(first, number=99, slices=())) == name_series(SECRET, first)
    other = replace(first, header=replace(first.header, echo_time_ms=1.0))
    assert name_series(SECRET, other) != name_series(SECRET, first)


def test_what_a_person_chose_replaces_the_kind(study: DicomStudy) -> None:
    names = [name_series(SECRET, each) for each in study.series]
    chosen = apply_uses(study, {names[0]: "ignore", names[1]: "hbv"}, SECRET)
    assert [(each.kind, each.reason) for each in chosen.series[:2]] == [("other", CHOSEN), ("hbv_calc", CHOSEN)]
    assert chosen.series[2:] == study.series[2:]
    assert apply_uses(study, {}, SECRET) is study


def test_writing_keeps_what_a_person_chose(tmp_path: Path) -> None:
    path = tmp_path / "series_map.csv"
    rows = [dict.fromkeys(COLUMNS[:-1], "x") | {"series": name} for name in ("a", "b")]
    write_series_map(path, rows, {"b": "t2w", "gone": "adc"})
    assert path.read_text().splitlines()[1:] == ["x,a,x,x,x,x,", "x,b,x,x,x,x,t2w"]
    assert read_uses(path) == {"b": "t2w"}


def test_use_as_is_read_however_it_is_typed(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_bytes(b"\xef\xbb\xbfseries,use_as\r\na, T2W \r\nb,\r\nd,ignore\r\n")  # a spreadsheet's mark and lines
    assert read_uses(path) == {"a": "t2w", "d": "ignore"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("c,a,t2w,axial,9,,t2",), r"line 2, column use_as: unknown 't2'; did you mean 't2w'\?"),
        (("c,a,t2w,axial,9,,t2w", "c,a,t2w,axial,9,,adc"), "line 3: this series has another use above"),
    ],
)
def test_a_wrong_map_names_its_line(tmp_path: Path, lines: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_uses(write(tmp_path / "map.csv", *lines))


def test_a_file_that_is_no_map(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text("case_id;series;use_as\n")
    with pytest.raises(ConfigurationError, match="found no series and no use_as"):
        read_uses(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_uses(path)
    with pytest.raises(ConfigurationError, match="Cannot read"):
        read_uses(tmp_path / "missing.csv")
    path.write_text(",".join(COLUMNS) + "\nc,a\n")  # a short line
    assert read_uses(path) == {}
