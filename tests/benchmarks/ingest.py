"""Seconds per study and peak memory from a DICOM export to training-ready cases, beside dcm2niix and picai_prep.

    python tests/benchmarks/ingest.py [--studies 4] [--repeats 3] [--files 1800] [--workers N]

The files are copies of one study under new UIDs: the real one in PROSTAFED_DATA (default ../shared/data), or a
generated one where that is absent; each row says which. The systems run one after the other, each in a process of its
own and with as many workers (dcm2niix has one); imports are `startup_seconds`. The last line is one JSON object. Rows:

    prostafed       index_site: headers, series, stacking, resampling onto 20 x 256 x 256, case files
    picai_prep      its two steps, Dicom2MHAConverter and MHA2nnUNetConverter (resampled to the same grid)
    prostafed-read  headers and stacking of every series, which is what dcm2niix does
    dcm2niix        DICOM to NIfTI of every series, uncompressed, not resampled
    prostafed-index headers alone, of --files files
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prostafed.client.ingest.records import DicomStudy

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parents[2]
SIZE, SPACING_MM = (20, 256, 256), (3.0, 0.5, 0.5)
SEQUENCES = ("t2w", "adc", "hbv")
Prepared = Callable[[], None]  # does the work that is timed


def main() -> None:
    """Measure every system and print the JSON object; with --system, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("studies", 4), ("repeats", 3), ("files", 1800), ("workers", os.cpu_count() or 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("system", "source", "out"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system:
        print(json.dumps(run_one(arguments.system, Path(arguments.source), Path(arguments.out), arguments.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.studies, arguments.repeats, arguments.files, arguments.workers)
        print(json.dumps({"benchmark": "ingest", "rows": rows}))


def measure(folder: Path, studies: int, repeats: int, files: int, workers: int) -> list[dict[str, object]]:
    """Return one row per system, the systems in turn within each repeat."""
    study, images = find_study(folder / "study")
    per_study = copy_study(study, folder / "export", studies)
    many = -(-files // per_study)
    copy_study(study, folder / "many", many)
    counts = {name: studies for name in SYSTEMS} | {"prostafed-index": many}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    for repeat in range(repeats):
        for name in SYSTEMS:
            out = folder / f"{name}-{repeat}"
            out.mkdir()
            source = folder / ("many" if name == "prostafed-index" else "export")
            command = [sys.executable, __file__, "--system", name, "--source", source, "--out", out]
            done = run_quietly([*map(str, command), "--workers", str(workers)])
            measured[name].append(json.loads(done.splitlines()[-1]))
            shutil.rmtree(out)
    seconds = {name: statistics.median(each["seconds"] for each in of) / counts[name] for name, of in measured.items()}
    return [
        {
            "system": name,
            "seconds": round(seconds[name] * counts[name], 3),
            "seconds_per_study": round(seconds[name], 4),
            "ratio_to_picai_prep": round(seconds[name] / seconds["picai_prep"], 3),
            "ratio_to_dcm2niix": round(seconds[name] / seconds["dcm2niix"], 3),
            "startup_seconds": round(statistics.median(each["startup_seconds"] for each in measured[name]), 3),
            "peak_mb": round(max(each["peak_mb"] for each in measured[name])),
            "studies": counts[name],
            "files": counts[name] * per_study,
            "workers": 1 if name == "dcm2niix" else workers,
            "images": images,
        }
        for name in SYSTEMS
    ]


def run_one(system: str, source: Path, out: Path, workers: int) -> dict[str, float]:
    """Return seconds, startup_seconds and peak_mb of one system in this process."""
    started = time.perf_counter()
    work = SYSTEMS[system](source, out, workers)
    ready = time.perf_counter()
    work()
    done = time.perf_counter()
    peak = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": done - ready, "startup_seconds": ready - started, "peak_mb": max(peak) / 1024}


def prepare_prostafed(source: Path, out: Path, workers: int) -> Prepared:
    """Index to cases."""
    from prostafed.client.ingest.index import IndexRequest, index_site
    from prostafed.common.imaging.cases import Grid

    def work() -> None:
        request = IndexRequest(source, out, b"benchmark", Grid(SPACING_MM, SIZE), SEQUENCES, workers=workers)
        found = index_site(request)
        assert all(study["status"] != "refused" for study in found["studies"]), found

    return work


def prepare_reading(source: Path, out: Path, workers: int) -> Prepared:
    """Read headers and stack every series that can be stacked, a study per worker."""
    from prostafed.client.ingest.scan.headers import read_studies
    from prostafed.client.ingest.workers import map_in_processes

    def work() -> None:
        studies, _ = read_studies(source, workers=workers)
        volumes = (
            map_in_processes(stack_study, studies, workers)
            if workers > 1
            else zip(studies, map(stack_study, studies), strict=True)
        )
        assert all(count for _, count in volumes), "no series could be stacked"

    return work


def stack_study(study: "DicomStudy") -> int:
    """Return how many volumes a study holds; a localizer has none."""
    from prostafed.client.findings import SourceError
    from prostafed.client.ingest.images.stack import stack_volume

    stacked = 0
    for series in study.series:
        for b_value in {each.b_value_s_per_mm2 for each in series.slices}:
            try:
                stack_volume([each for each in series.slices if each.b_value_s_per_mm2 == b_value], "series")
            except SourceError:
                continue
            stacked += 1
    return stacked


def prepare_headers(source: Path, out: Path, workers: int) -> Prepared:
    """Read headers."""
    from prostafed.client.ingest.scan.headers import read_studies

    return lambda: None if read_studies(source, workers=workers)[0] else sys.exit("no study found")


def prepare_dcm2niix(source: Path, out: Path, workers: int) -> Prepared:
    """Convert with dcm2niix."""
    import dcm2niix

    command = [dcm2niix.bin, "-z", "n", "-b", "y", "-f", "%i_%s_%j", "-o", str(out), str(source)]

    def work() -> None:
        run_quietly(command)

    return work


def prepare_picai_prep(source: Path, out: Path, workers: int) -> Prepared:
    """Convert and resample with picai_prep, told by hand which series is which."""
    from picai_prep import Dicom2MHAConverter, MHA2nnUNetConverter

    paths = sorted(path.relative_to(source) for path in source.glob("*/*/*") if path.is_dir())
    archive = [{"patient_id": path.parts[0], "study_id": path.parts[1], "path": path.as_posix()} for path in paths]
    descriptions = json.loads((source / "descriptions.json").read_text())
    mappings = {name: {"SeriesDescription": [text]} for name, text in descriptions.items()}
    cases = [
        {
            "patient_id": patient,
            "study_id": study,
            "scan_paths": [f"{patient}/{patient}_{study}_{name}.mha" for name in SEQUENCES],
        }
        for patient, study in sorted({path.parts[:2] for path in paths})
    ]
    options = {"num_threads": workers, "verify_dicom_filenames": False}
    first = {"mappings": mappings, "archive": archive, "options": options}
    second = {
        "dataset_json": {
            "task": "Task001_benchmark",
            "modality": {str(number): name for number, name in enumerate(SEQUENCES)},
            "labels": {"0": "background"},
        },
        "preprocessing": {"matrix_size": list(SIZE), "spacing": list(SPACING_MM)},
        "archive": cases,
        "options": {"num_threads": workers},
    }

    def work() -> None:
        Dicom2MHAConverter(source, out / "mha", first).convert()
        MHA2nnUNetConverter(out / "nnunet", out / "mha", mha2nnunet_settings=second).convert()
        made = len(list((out / "nnunet").rglob("*.nii.gz")))
        assert made == len(SEQUENCES) * len(cases), f"picai_prep made {made} files"

    return work


SYSTEMS: dict[str, Callable[[Path, Path, int], Prepared]] = {
    "prostafed": prepare_prostafed,
    "picai_prep": prepare_picai_prep,
    "prostafed-read": prepare_reading,
    "dcm2niix": prepare_dcm2niix,
    "prostafed-index": prepare_headers,
}


def run_quietly(command: list[str]) -> str:
    """Run a command and return what it printed; raises SystemExit with its words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def find_study(folder: Path) -> tuple[Path, str]:
    """Return a folder of series folders, and whether its images are real."""
    real = Path(os.environ.get("PROSTAFED_DATA", ROOT / ".." / "shared" / "data")) / "prostatex_dicom"
    if real.is_dir():
        return next(path for path in sorted(real.glob("*/*")) if path.is_dir()), "real"
    from prostafed.simulations.dicom.layout import write_dicom_layout
    from prostafed.simulations.phantom.picai_layout import Emulation

    write_dicom_layout(folder, 1, Emulation(0), style="siemens")
    return next(path.parent.parent for path in sorted(folder.rglob("*.dcm"))), "generated"


def copy_study(study: Path, out: Path, copies: int) -> int:
    """Write copies of a study as patients of their own, patient/study/series/n.dcm; return the files of one."""
    import pydicom
    from pydicom.uid import generate_uid

    files = sorted(path for path in study.rglob("*.dcm"))
    datasets = [pydicom.dcmread(path) for path in files]
    descriptions = {}
    for copy in range(copies):
        fresh: dict[str, str] = {}
        for path, dataset in zip(files, datasets, strict=True):
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                uid = str(dataset[keyword].value)
                dataset[keyword].value = fresh.setdefault(uid, generate_uid())
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.PatientID = f"copy{copy}"
            folder = out / f"copy{copy}" / "study" / path.parent.name.replace(" ", "")
            folder.mkdir(parents=True, exist_ok=True)
            dataset.save_as(folder / path.name)
            descriptions[str(dataset.SeriesDescription)] = tuple(dataset.ImageType)
    (out / "descriptions.json").write_text(json.dumps(name_sequences(descriptions)))
    return len(files)


def name_sequences(descriptions: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the series description of each sequence, as a person would write it into picai_prep's settings."""
    words = {text: text.lower() for text in descriptions}
    return {
        "t2w": next(text for text, low in words.items() if "t2" in low and "tra" in low),
        "adc": next(text for text, low in words.items() if low.endswith("adc")),
        "hbv": next(text for text, low in words.items() if "calc" in low),
    }


if __name__ == "__main__":
    main()
