"""The quality report: its figures by hand, its pictures, and the page as a browser gets it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prostafed.client.ingest.quality.figures import (
    Count,
    count_findings,
    count_labels,
    describe_study,
    tabulate_protocols,
)
from prostafed.client.ingest.quality.noise import estimate_snr
from prostafed.client.ingest.quality.page import (
    choose_cases,
    choose_slice,
    draw_case,
    read_report,
    write_quality_report,
)
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid

GRID = Grid((3.0, 1.0, 1.0), (6, 32, 32))
SEQUENCES = ("t2w", "adc", "hbv")


def entry(study: str, status: str = "ready", **changes: Any) -> dict[str, Any]:
    """A study as index.json has it."""
    series = [("t2w", "axial", []), ("t2w", "sagittal", []), ("dwi", "axial", [50, 400, 800]), ("adc", "axial", [1000])]
    t2w = {"source": "acquired", "spacing_mm": [3.6, 0.5, 0.5], "coverage": 1.0, "snr": 17.2, "b_value_s_per_mm2": None}
    hbv = {"source": "computed b=1400", "spacing_mm": [3.6, 2.0, 2.0], "coverage": 0.93, "b_value_s_per_mm2": 1400}
    return {
        "study": study,
        "status": status,
        "findings": [],
        "sequences": {"t2w": t2w, "adc": {**t2w, "source": "vendor map", "snr": None}, "hbv": hbv},
        "series": [
            {"series": f"{number}", "kind": kind, "plane": plane, "slices": 18, "b_values_s_per_mm2": b, "reason": ""}
            for number, (kind, plane, b) in enumerate(series)
        ],
        "masks": ["gland"],
        **changes,
    }


def finding(code: str, severity: str, study: str, text: str = "expected <this>, found that.") -> dict[str, str]:
    return {"code": code, "severity": severity, "text": f"{code} case={study}: {text}"}


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three studies: one ready, one with a warning, one refused."""
    folder = tmp_path / "cases"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, lesion in (("aaaa", True), ("bbbb", False)):
        masks = np.zeros((len(MASKS), *GRID.size), np.uint8)
        masks[0, 2:5, 8:24, 8:24] = 1
        masks[2, 3, 10:14, 10:14] = lesion
        image = rng.normal(size=(3, *GRID.size)).astype(np.float16)
        record = CaseRecord(
            name, f"p-{name}", cspca=lesion, isup=3 if lesion else 0, pirads_reads=(4, 5) if lesion else (2,),
            masks=("gland", "lesion"), sequences=dict.fromkeys(SEQUENCES, "acquired"), source="dicom",
        )  # fmt: skip
        write_case(folder, record, image, masks, GRID, SEQUENCES)
    studies = [
        entry("aaaa"),
        entry("bbbb", "warning", findings=[finding("PIRADS_MINIMUM", "W", "bbbb")]),
        entry("cccc", "refused", findings=[finding("NO_T2", "F", "cccc"), finding("LOSSY", "W", "cccc")], sequences={}),
    ]
    index = {
        "studies": studies,
        "findings": [finding("NOT_DICOM", "W", "-", "expected DICOM, found 3 other files.")],
        "counts": {"opted_out": 1},
        "grid": {"spacing_mm": [3.0, 1.0, 1.0], "size": [6, 32, 32]},
        "sequences": list(SEQUENCES),
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


class TestFigures:
    def test_a_study_by_hand(self):
        study = describe_study(
            entry("aaaa", "warning", findings=[finding("PIRADS_MINIMUM", "W", "aaaa", "found 4 mm.")])
        )
        assert study.b_values_s_per_mm2 == (50, 400, 800)
        assert study.kinds == {"t2w": 2, "dwi": 1, "adc": 1}
        assert study.planes == {"axial": 1, "sagittal": 1}
        assert study.shortfalls == ("found 4 mm.",)
        assert (study.sequences["t2w"].snr, study.sequences["hbv"].snr) == (17.2, None)
        assert study.sequences["hbv"].coverage == 0.93

    def test_labels_are_counted_and_small_counts_marked(self):
        records = [
            CaseRecord(f"{n}", "p", cspca=n < 9, isup=2 if n < 9 else None, pirads_reads=(3, 4)[: n % 3])
            for n in range(20)
        ]
        counts = {(each.label, each.value): each for each in count_labels(records)}
        assert counts["csPCa", "yes"] == Count("csPCa", "yes", 9)
        assert counts["csPCa", "yes"].small
        assert counts["csPCa", "no"].cases == 11
        assert not counts["csPCa", "no"].small
        assert not counts["csPCa", "unknown"].small  # nobody: nobody to recognise
        assert counts["ISUP grade", "unknown"].cases == 11
        assert ("ISUP grade", "3") not in counts
        assert [counts["PI-RADS, highest", value].cases for value in ("3", "4", "unknown")] == [7, 6, 7]
        assert [counts["Readers per case", value].cases for value in "012"] == [7, 7, 6]
        assert counts["Delineated", "gland"].cases == 0

    def test_protocols_count_usable_studies_the_most_frequent_first(self):
        other = entry("d")
        other["sequences"]["hbv"] = {**other["sequences"]["hbv"], "source": "acquired b=1400"}
        studies = [describe_study(each) for each in (entry("a"), other, entry("b"), entry("c", "refused"))]
        assert tabulate_protocols(studies) == [
            ("ADC from", "vendor map", 3),
            ("HBV from", "computed b=1400", 2),
            ("HBV from", "acquired b=1400", 1),
            ("T2W voxels", "3.6 × 0.5 × 0.5 mm", 3),
            ("b-values acquired", "50, 400, 800", 3),
        ]

    def test_findings_are_counted_by_study(self):
        twice = [finding("LOSSY", "W", "a"), finding("LOSSY", "W", "a"), finding("NO_T2", "F", "a")]
        studies = [describe_study(entry("a", findings=twice)), describe_study(entry("b", findings=twice[:1]))]
        assert count_findings(studies) == [("NO_T2", "F", 1), ("LOSSY", "W", 2)]


class TestNoise:
    @pytest.mark.parametrize("snr", [10.0, 40.0])
    def test_known_noise_comes_back(self, snr):
        rng = np.random.default_rng(1)
        volume = rng.normal(100, 100 / snr, (20, 128, 128)).astype(np.float32)
        assert estimate_snr(volume) == pytest.approx(snr, rel=0.03)

    def test_edges_and_a_bright_border_change_little(self):
        rng = np.random.default_rng(2)
        truth = np.where(np.indices((20, 128, 128)).sum(0) // 16 % 2, 120.0, 80.0)
        truth[:, :20] = 5000
        assert estimate_snr((truth + rng.normal(0, 5, truth.shape)).astype(np.float32)) == pytest.approx(20, rel=0.25)

    def test_what_is_flat_or_tiny_has_none(self):
        assert estimate_snr(np.full((3, 64, 64), 7, np.float32)) is None
        assert estimate_snr(np.zeros((3, 64, 64), np.float32)) is None
        assert estimate_snr(np.ones((3, 4, 4), np.float32)) is None


class TestPictures:
    def test_the_slice_shown_is_the_lesions_else_the_glands(self):
        masks = np.zeros((len(MASKS), 6, 8, 8), np.uint8)
        assert choose_slice(masks) == (3, "the middle one")
        masks[1, 1] = 2
        assert choose_slice(masks)[0] == 1
        masks[0, 4] = 1
        assert choose_slice(masks) == (4, "the largest gland")
        masks[2, 2, 0, :2] = 1
        masks[2, 5, 0, 0] = 1
        assert choose_slice(masks) == (2, "the largest lesion area")

    def test_a_missing_sequence_has_no_picture(self):
        image = np.zeros((3, 6, 32, 32), np.float16)
        drawn = draw_case("aaaa", image, np.zeros((3, 6, 32, 32), np.uint8), GRID, ("t2w", None, "hbv"))
        assert [picture.label for picture in drawn.pictures] == ["T2W", "High b-value"]
        assert all(picture.uri.startswith("data:image/jpeg;base64,") for picture in drawn.pictures)

    def test_those_with_warnings_come_first(self):
        studies = [describe_study(entry(name, "warning" if name in "bd" else "ready")) for name in "abcd"]
        assert choose_cases(studies, ["a", "b", "c", "d"], 3) == [1, 3, 0]
        assert choose_cases(studies, ["a", "b", "c", "d"], 0) == []


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class TestPage:
    def test_page_and_json_say_the_same(self, cases, tmp_path):
        seen: list[tuple[int, int]] = []
        summary = write_quality_report(cases, tmp_path / "new" / "qc.html", "north", lambda *done: seen.append(done))
        page = (tmp_path / "new" / "qc.html").read_text()
        assert json.loads((tmp_path / "new" / "qc.json").read_text()) == json.loads(json.dumps(summary))
        assert summary["counts"] == {"ready": 1, "warning": 1, "refused": 1}
        assert summary["patients"] == 2
        assert [study["meets_pirads_minima"] for study in summary["studies"]] == [True, False, None]
        assert "2 of 3 studies can be used, 1 of them with warnings; 1 is refused." in page
        assert "1 left out because the patient objects" in page
        assert "expected DICOM, found 3 other files." in page
        assert "Few patients" in page
        assert "Generated" not in page
        assert seen[-1] == (2, 2)

    def test_it_asks_nothing_of_the_network_and_every_picture_has_words(self, cases, tmp_path):
        write_quality_report(cases, tmp_path / "qc.html", "north")
        page = _Page()
        page.feed((tmp_path / "qc.html").read_text())
        assert page.open == []
        pictures = [attributes for tag, attributes in page.tags if tag == "img"]
        assert len(pictures) == 6
        assert all(each["alt"] and str(each["src"]).startswith("data:") for each in pictures)
        assert not any(tag in ("script", "link", "iframe") or "href" in each for tag, each in page.tags)
        assert not re.search(r"url\(|@import|https?:", (tmp_path / "qc.html").read_text())
        assert ("html", {"lang": "en"}) in page.tags

    def test_sentences_are_escaped(self, cases, tmp_path):
        write_quality_report(cases, tmp_path / "qc.html", "north")
        page = (tmp_path / "qc.html").read_text()
        assert "expected &lt;this&gt;, found that." in page
        assert "<this>" not in page

    def test_generated_cases_are_called_that(self, cases, tmp_path):
        image, masks = np.zeros((3, *GRID.size), np.float16), np.zeros((len(MASKS), *GRID.size), np.uint8)
        write_case(cases, CaseRecord("aaaa", "p", source="phantom"), image, masks, GRID, SEQUENCES)
        write_quality_report(cases, tmp_path / "qc.html", "north")
        assert "Partly generated images" in (tmp_path / "qc.html").read_text()

    def test_all_refused(self, cases, tmp_path):
        index = json.loads((cases / "index.json").read_text())
        index["studies"] = index["studies"][2:]
        (cases / "index.json").write_text(json.dumps(index))
        for path in cases.glob("*.safetensors"):
            path.unlink()
        summary = write_quality_report(cases, tmp_path / "qc.html", "north")
        assert (summary["patients"], summary["counts"]["refused"]) == (0, 1)
        assert "0 of 1 studies can be used; 1 is refused." in (tmp_path / "qc.html").read_text()

    @pytest.mark.parametrize("text", ["", "[]", '{"studies": 3}', '{"studies": [{"study": 1}]}'])
    def test_an_index_that_is_none(self, tmp_path, text):
        with pytest.raises(DataError, match=r"Expected index.json in the folder of cases, found none"):
            read_report(tmp_path, "north")
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(DataError, match="not one this release has written"):
            read_report(tmp_path, "north")
