"""Epochs in batches, and what of the cases is read for them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from prostafed.client.rounds import answer as work
from prostafed.client.training.feed import Feed, plan_epoch
from prostafed.common.imaging import case_folder
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid
from tests.client.tiny_site import BYOL, FINETUNE, ask, make_study, open_site


@given(count=st.integers(1, 60), size=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_holds_every_case_once_in_nearly_equal_batches(count: int, size: int, seed: int) -> None:
    batches = [batch for batch, _ in plan_epoch(count, size, seed)]
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_every_batch_of_every_epoch_has_a_seed_of_its_own() -> None:
    seeds = [seed for epoch in range(4) for _, seed in plan_epoch(20, 4, epoch)]
    assert len(seeds) == len(set(seeds)) == 20
    assert plan_epoch(20, 4, 1) == plan_epoch(20, 4, 1)
    assert [batch for batch, _ in plan_epoch(20, 4, 1)] != [batch for batch, _ in plan_epoch(20, 4, 2)]


def make_feed(hideable: tuple[int, ...] = ()) -> Feed:
    records = tuple(CaseRecord(f"c{i}", f"p{i}", cspca=i % 2 == 0) for i in range(40))
    arrays = tuple(
        (np.full((2, 1, 1, 1), i + 1, np.float16), np.full((3, 1, 1, 1), i + 1, np.uint8)) for i in range(40)
    )
    grid = Grid((3.0, 1.0, 1.0), (1, 1, 1))
    return Feed(CasesInMemory(records, arrays), range(40), grid, torch.device("cpu"), hideable)


def test_positions_count_in_what_is_chosen() -> None:
    feed = make_feed().choose(lambda record: bool(record.cspca))
    batch = feed.load([3, 0], masks=True)
    assert feed.chosen == list(range(0, 40, 2))
    assert [record.case_id for record in batch.records] == ["c6", "c0"]
    assert batch.images[:, 0, 0, 0, 0].tolist() == [7.0, 1.0]
    assert batch.masks[:, 0, 0, 0, 0].tolist() == [7, 1]
    assert (batch.images.dtype, batch.masks.dtype) == (torch.float32, torch.uint8)
    assert not len(feed.load([3, 0], masks=False).masks)


def test_sequences_are_hidden_in_training_alone() -> None:
    feed = make_feed(hideable=(1,))
    drawn = feed.draw(range(40), False, Generator().manual_seed(0)).images[:, :, 0, 0, 0]
    assert (drawn[:, 0] > 0).all()
    assert 0 < (drawn[:, 1] > 0).sum() < 40
    assert (feed.load(range(40), False).images > 0).all()


def test_nothing_is_read_twice_and_no_masks_where_none_are_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts the tensors that are read from the files of the cases."""
    study, read = make_study({**BYOL, "epochs": 1}, {**FINETUNE, "epochs": 1, "rounds": 1}), Counter[str]()
    place = open_site(tmp_path, study)
    opened = case_folder.safe_open

    class Watched:
        def __init__(self, path: Path, framework: str) -> None:
            self._file = opened(path, framework=framework)

        def __enter__(self) -> "Watched":
            self._file.__enter__()
            return self

        def __exit__(self, *arguments: Any) -> None:
            self._file.__exit__(*arguments)

        def get_tensor(self, name: str) -> Any:
            read[name] += 1
            return self._file.get_tensor(name)

    monkeypatch.setattr(case_folder, "safe_open", Watched)
    trained = len(place.splits["train"])
    work.answer(place, ask(study))
    assert read == {"image": trained}
    read.clear()
    work.answer(place, ask(study, stage=2))
    assert read == {"image": trained, "masks": trained}
    read.clear()
    asked = ask(study, stage=2)
    work.answer(place, type(asked)(**{**vars(asked), "action": "evaluate", "splits": ("train", "test")}))
    judged = trained + len(place.splits["test"])
    assert read == {"image": judged, "masks": judged}
