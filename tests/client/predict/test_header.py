"""Results of studies whose headers lack what DICOM wants, or hold what it does not allow: every attribute by itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, generate_uid

from prostafed.client.ingest.assemble import Wanted
from prostafed.client.ingest.images.sources import Source, find_t2w
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.predict.algorithm import name_algorithm
from prostafed.client.predict.placing import Placed, lay_grid, place_answer
from prostafed.client.predict.source import SourceSeries, read_source
from prostafed.client.predict.study import LOGGERS, Setting, make_results
from prostafed.common.bundle.record import Bundle
from prostafed.common.shell.quiet import quiet
from prostafed.common.tasks.answer import Answer, Segment
from tests.client.ingest.tiny_study import GRID, make_study, save_study
from tests.client.predict.conftest import SECRET, Predict
from tests.client.predict.test_run import say_block

Change = Callable[[Dataset], object]
RESULTS = {"segmentation.dcm", "heat_map.dcm", "report.dcm"}

# What highdicom reads of a source image, and what else of patient and study it takes over, with a value that is wrong.
ODD: Mapping[str, Any] = {
    "SpecificCharacterSet": "klingon",
    "Modality": "",
    "PatientID": ["1", "2"],
    "PatientName": ["A^B", "C^D"],
    "PatientBirthDate": "around 1950",
    "PatientSex": "male",
    "PatientAge": "65 years",
    "PatientWeight": "82,5 ",
    "AccessionNumber": 40 * "1",
    "StudyID": 40 * "1",
    "StudyDate": "2026-01-02",
    "StudyTime": "noon",
    "StudyDescription": 100 * "a",
    "StudyInstanceUID": "anonymised",
    "SeriesInstanceUID": "1.02.3",
    "SeriesNumber": "one",
    "SeriesDate": "yesterday",
    "SOPInstanceUID": "none",
    "FrameOfReferenceUID": "REMOVED",
    "PositionReferenceIndicator": 100 * "a",
    "ReferringPhysicianName": ["A^B", "C^D"],
    "AcquisitionDate": "00000000",
    "AcquisitionTime": "99:99",
    "ContentDate": "unknown",
    "ContentTime": "-",
    "InstanceNumber": "1.5",
    "SliceThickness": "thin",
    "SpacingBetweenSlices": "none",
    "Manufacturer": 100 * "a",
    "ManufacturerModelName": ["a", "b"],
    "InstitutionName": 100 * "a",
    "LossyImageCompression": "no",
    "ImageType": "ORIGINAL",
    "Laterality": "both",
    "BodyPartExamined": "the prostate",
}


def put(dataset: Dataset, keyword: str, value: Any) -> None:
    """Write `value` whatever DICOM says of it."""
    tag = BaseTag(tag_of(keyword))
    kind = dictionary_VR(tag)
    if kind in ("DS", "IS"):  # pydicom makes no such element of a text that is no number
        dataset[tag] = RawDataElement(
            tag, kind, len(value), value.encode(), 0, is_implicit_VR=False, is_little_endian=True
        )
    else:
        dataset.add(DataElement(tag, kind, value, validation_mode=IGNORE))


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword DICOM knows."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


CHARACTER_SETS = {
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Japanese, plain name": (["", "ISO 2022 IR 87"], "Yamada^Tarou"),
    "Japanese, half width": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "German": ("ISO_IR 100", "Müller^Jörg"),
    "German, extended": (["ISO 2022 IR 6", "ISO 2022 IR 100"], "Müller^Jörg"),
    "Greek": ("ISO_IR 126", "Διονυσιος^"),
    "Russian, extended": (["", "ISO 2022 IR 144"], "Люкceмбypг^"),
    "Unicode": ("ISO_IR 192", "Müller^山田"),
}
HOW: Mapping[str, Callable[[Dataset, str], object]] = {
    "removed": lambda dataset, keyword: dataset.pop(tag_of(keyword), None),
    "empty": lambda dataset, keyword: put(dataset, keyword, ""),
    "odd": lambda dataset, keyword: put(dataset, keyword, ODD[keyword]),
}
UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"}  # results cannot do without
REFUSED = {"PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight", "StudyDate", "StudyTime"}  # where odd
REFUSED |= {"PatientName"}


@dataclass(frozen=True)
class Predicted:
    """A study that was read and predicted, but for the results."""

    t2w: Source
    datasets: Sequence[Dataset]
    placed: Placed
    setting: Setting

    def make(self, change: Change, folder: Path) -> tuple[SourceSeries, Mapping[str, Dataset]]:
        """Return the headers as read, and the results as read back, of a T2W changed in every slice."""
        (series,) = self.t2w.series
        slices = []
        for number, (each, before) in enumerate(zip(series.slices, self.datasets, strict=True)):
            dataset = deepcopy(before)
            change(dataset)
            dataset.save_as(folder / f"{number}.dcm")
            slices.append(replace(each, path=folder / f"{number}.dcm"))
        with quiet(*LOGGERS):
            source = read_source(replace(self.t2w, series=(replace(series, slices=tuple(slices)),)))
            made = make_results(self.placed, source, self.t2w.image, self.setting)
            results = {}
            for name, result in made.items():
                result.save_as(folder / name)
                results[name] = pydicom.dcmread(folder / name)
        return source, results


@pytest.fixture(scope="module")
def predicted(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    folder = tmp_path_factory.mktemp("study")
    save_study(make_study(), folder)
    (study,), _ = read_studies(folder)
    t2w = find_t2w(study.series, lambda error, series: None)
    assert t2w is not None
    heat = np.zeros(GRID.size, np.float32)
    heat[1:3, 8:14, 8:14] = 0.8
    answer = Answer(0.8, heat=heat, labels=(heat > 0).astype(np.uint8), segments=(Segment("candidate", "One", 0.8),))
    placed = place_answer(answer, lay_grid(t2w.image, GRID), t2w.image)
    wanted = Wanted(GRID, ("t2w", "adc", "hbv"))
    setting = Setting(
        folder, SECRET, bundle, name_algorithm(bundle), wanted, {}, lambda image: heat, lambda heat: answer
    )
    (series,) = t2w.series
    return Predicted(t2w, [pydicom.dcmread(each.path) for each in series.slices], placed, setting)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{keyword} {how}" for keyword in ODD for how in HOW])
def test_whatever_one_attribute_holds_there_are_results(name: str, predicted: Predicted, tmp_path: Path) -> None:
    keyword, how = name.split(" ")
    source, results = predicted.make(lambda each: HOW[how](each, keyword), tmp_path)
    assert set(results) == RESULTS
    assert set(source.mended) <= {keyword}
    assert bool(source.mended) == (keyword in UIDS or (how == "odd" and keyword in REFUSED))
    uids = {
        (each.StudyInstanceUID, each.get("FrameOfReferenceUID", each.StudyInstanceUID)) for each in results.values()
    }
    assert all(UID(uid).is_valid for pair in uids for uid in pair)
    assert len({each.StudyInstanceUID for each in results.values()}) == 1
    for each in results.values():
        others = {"PatientID": "P1", "PatientName": "GENERATED^Tiny", "PatientSex": "M", "StudyDate": "20260102"}
        for other, value in others.items():
            assert other == keyword or each[other].value == value


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_a_name_reads_the_same_in_every_character_set(name: str, predicted: Predicted, tmp_path: Path) -> None:
    characters, patient = CHARACTER_SETS[name]

    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = characters, patient

    source, results = predicted.make(change, tmp_path)
    assert source.mended == ()
    for each in results.values():
        assert str(each.PatientName) == patient
        assert each.PatientName.components == tuple(patient.split("="))


def test_made_uids_are_those_of_the_study(predicted: Predicted, tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        for keyword in ("FrameOfReferenceUID", "StudyInstanceUID"):
            delattr(dataset, keyword)

    frames = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        source, results = predicted.make(change, tmp_path / name)
        assert source.mended == ("FrameOfReferenceUID", "StudyInstanceUID")
        frames += [results[each].FrameOfReferenceUID for each in ("segmentation.dcm", "heat_map.dcm")]
    assert len(set(frames)) == 1


def test_slices_that_disagree_on_their_frame_of_reference(predicted: Predicted, tmp_path: Path) -> None:
    _, results = predicted.make(lambda each: setattr(each, "FrameOfReferenceUID", generate_uid()), tmp_path)
    assert set(results) == RESULTS


def test_what_was_missing_is_said(predict: Predict, bundle: Bundle, tmp_path: Path) -> None:
    study = make_study()
    for each in (each for slices in study.values() for each in slices):
        del each.FrameOfReferenceUID
        put(each, "StudyDate", "Doe")
    save_study(study, tmp_path / "dicom")
    (entry,) = predict(tmp_path / "dicom", bundle, say_block)["studies"]
    assert {"segmentation.dcm", "heat_map.dcm", "report.dcm"} <= set(entry["files"]), entry["findings"]
    (finding,) = [each for each in entry["findings"] if each["code"] == "HEADER_GAP"]
    assert "found FrameOfReferenceUID, StudyDate missing or wrong in the T2W" in finding["text"]
    assert (finding["severity"], "Doe" in json.dumps(entry)) == ("W", False)
