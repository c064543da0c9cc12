"""Replies on disk: read back as they came, in order of name, gone afterwards."""

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import RoundError
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation import Update, spool
from prostafed.server.aggregation.spool import Spool
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, sent, update


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


LAYOUT: Tensors = {"b": np.zeros((2, 3), np.float32), "a": np.zeros((), np.float16), "count": np.zeros(1, np.int64)}


def reply(site: str, number: float, without: str = "") -> Update:
    tensors = {name: (array + number).astype(array.dtype) for name, array in LAYOUT.items() if name != without}
    return Update(site, 1, 1, tensors)


def test_read_back_in_order_of_name_whatever_order_they_came_in(folder: Path) -> None:
    kept = Spool(LAYOUT)
    for each in (reply("south", 2.0), reply("../north", 1.0), reply("east", 3.0, without="a")):
        kept.add(each)
    assert kept.sites == ("../north", "east", "south")
    rows = list(kept.read())
    assert [(each.name, each.sites) for each in rows] == [
        ("a", ("../north", "south")),
        ("b", ("../north", "east", "south")),
    ]
    assert rows[1].values.tolist() == [[1.0] * 6, [3.0] * 6, [2.0] * 6]
    assert kept.common() == ("b",)


@pytest.mark.parametrize("values", [1, 4, 5, 100])
def test_blocks_cover_every_value_once(folder: Path, monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    monkeypatch.setattr(spool, "BLOCK_VALUES", values)
    kept = Spool({"w": np.zeros(7, np.float32)})
    for number in range(2):
        kept.add(update(list(np.arange(7.0) + 10 * number), site=str(number)))
    blocks = list(kept.read())
    assert np.concatenate([each.values for each in blocks], axis=1)[1].tolist() == list(np.arange(10.0, 17.0))
    assert all(each.values.size <= max(values, 2) for each in blocks)
    assert [index for each in blocks for index in range(*each.block.indices(7))] == list(range(7))


def test_the_folder_goes_when_the_round_is_finished_or_dropped(folder: Path) -> None:
    aggregator = build("fedmedian")
    state = aggregator.add(aggregator.init(sent([0.0]), {}), update([1.0]))
    assert len(list(folder.iterdir())) == 1
    aggregator.finish(state)
    assert not list(folder.iterdir())
    state = aggregator.add(aggregator.init(sent([0.0]), {}), update([1.0]))
    del state
    gc.collect()
    assert not list(folder.iterdir())


def test_the_folder_goes_when_the_rule_finds_too_few(folder: Path) -> None:
    aggregator = build("krum")
    with pytest.raises(RoundError):
        aggregator.finish(aggregator.init(sent([0.0]), {}))
    assert not list(folder.iterdir())


def test_a_site_answers_once(folder: Path) -> None:
    kept = Spool(LAYOUT)
    kept.add(reply("north", 1.0))
    with pytest.raises(RejectedError, match="north has answered"):
        kept.add(reply("north", 2.0))


def test_a_full_disk_says_what_to_do(folder: Path) -> None:
    kept = Spool(LAYOUT)
    next(folder.iterdir()).rmdir()
    with pytest.raises(RoundError, match=r"north could not be kept. Cannot write into .*no such file.*TMPDIR"):
        kept.add(reply("north", 1.0))


def test_what_is_not_finite_is_rejected(folder: Path) -> None:
    for name in ("fedmedian", "krum"):
        aggregator = build(name)
        with pytest.raises(RejectedError, match="not finite"):
            aggregator.add(aggregator.init(sent([0.0]), {}), update([float("nan")]))
