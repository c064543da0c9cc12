import numpy as np

from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid


def test_extent_is_spacing_times_size():
    assert Grid((3.0, 0.5, 0.25), (20, 256, 100)).extent_mm == (60, 128, 25)


def test_cases_in_memory_return_their_arrays():
    arrays = tuple((np.full((1, 1, 1, 1), n, np.float16), np.zeros((3, 1, 1, 1), np.uint8)) for n in (1, 2))
    cases = CasesInMemory((CaseRecord("a", "p"), CaseRecord("b", "q")), arrays)
    assert cases.load(1)[0].item() == 2
