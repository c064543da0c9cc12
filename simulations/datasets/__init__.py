"""The DATASETS table: importers of public prostate MRI sets, one file each. An importer is loaded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Never, Protocol, cast

from prostafed.common.errors import ConfigurationError, DataError, nearest
from prostafed.common.imaging.cases import CaseRecord, Grid, Image, Masks

if TYPE_CHECKING:
    from prostafed.simulations.datasets.study import StudyFiles


@dataclass(frozen=True)
class DatasetEntry:
    """One line of the table: the module that imports the set, and what a person must know to get and unpack it.

    Nothing is stated here that its publishers do not say: where a licence is not certain, its page is named instead.
    """

    module: str  # below this package; it has import_<module> and list_files
    title: str
    sites: tuple[str, ...]  # centres that `center` of a federation file can choose; empty: the set does not tell them
    sequences: tuple[str, ...]
    labels: str
    licence: str
    size: str
    origin: str
    tree: str  # what belongs below root


DATASETS: dict[str, DatasetEntry] = {
    "picai": DatasetEntry(
        module="picai",
        title="PI-CAI public training set",
        sites=("RUMC", "ZGT", "PCNN"),
        sequences=("t2w", "adc", "hbv"),
        labels="csPCa lesions, ISUP, PI-RADS; gland and zones by AI",
        licence="labels CC BY-NC 4.0; images: see their page",
        size="1,500 studies of 1,476 patients",
        origin="images: zenodo.org/record/6624726 (five zip files), labels: github.com/DIAGNijmegen/picai_labels",
        tree="""images/<patient>/<patient>_<study>_{t2w,adc,hbv}.mha
labels/                                  the picai_labels repository; or picai_labels/
  clinical_information/marksheet.csv
  csPCa_lesion_delineations/human_expert/{resampled,Pooch25}/<patient>_<study>.nii.gz
  anatomical_delineations/{whole_gland/AI/Bosma22b,zonal_pz_tz/AI/HeviAI23}/<patient>_<study>.nii.gz
picai_splits.json                        optional, from picai_baseline: for `fold`""",
    ),
    "prostatex": DatasetEntry(
        module="prostatex",
        title="PROSTATEx (SPIE-AAPM-NCI challenge)",
        sites=("RUMC",),
        sequences=("t2w", "adc", "hbv"),
        labels="csPCa yes or no per finding (training part), no contours",
        licence="CC BY 3.0",
        size="346 patients, of whom 204 with published findings",
        origin="cancerimagingarchive.net/collection/prostatex (images with the NBIA Data Retriever, findings as CSV)",
        tree="""ProstateX-NNNN/<date>/<series>/*.dcm      also below PROSTATEx/ or manifest-*/PROSTATEx/
ProstateX-Findings-Train.csv             also in a folder of its own; ProstateX-Findings-Test.csv is optional""",
    ),
    "prostate158": DatasetEntry(
        module="prostate158",
        title="Prostate158",
        sites=("Charite",),
        sequences=("t2w", "adc", "hbv"),
        labels="cancer contours, zones",
        licence="see its page",
        size="158 studies, one per patient: 139 for training and validation, 19 for testing",
        origin="doi.org/10.5281/zenodo.6481141 (training), doi.org/10.5281/zenodo.6592345 (testing)",
        tree="""prostate158_train/{train.csv,valid.csv}    or train.csv and valid.csv in root itself
prostate158_train/train/NNN/{t2,adc,dwi,t2_anatomy_reader1,t2_tumor_reader1,adc_tumor_reader1,empty}.nii.gz
prostate158_test/test.csv                optional; paths in the tables are relative to them
prostate158_test/test/NNN/...            as above, and of a second reader""",
    ),
    "msd": DatasetEntry(
        module="msd",
        title="Medical Segmentation Decathlon, Task05_Prostate",
        sites=("RUMC",),
        sequences=("t2w", "adc"),
        labels="zones (32 of the studies)",
        licence="CC BY-SA 4.0",
        size="48 studies, one per patient: 32 with and 16 without labels",
        origin="medicaldecathlon.com (Task05_Prostate.tar)",
        tree="""imagesTr/prostate_XX.nii.gz                also below Task05_Prostate/; 4D: T2, ADC
labelsTr/prostate_XX.nii.gz
imagesTs/prostate_XX.nii.gz              optional, without labels""",
    ),
    "promise12": DatasetEntry(
        module="promise12",
        title="PROMISE12",
        sites=(),
        sequences=("t2w",),
        labels="gland",
        licence="see LICENSE.TXT beside the files",
        size="50 training studies, one per patient, of four centres that the files do not tell apart",
        origin="doi.org/10.5281/zenodo.8026660 (training_data.zip)",
        tree="""CaseXX.mhd, CaseXX.raw                     also below training_data/ or TrainingData_PartN/
CaseXX_segmentation.mhd, CaseXX_segmentation.raw""",
    ),
    "nci-isbi": DatasetEntry(
        module="nci_isbi",
        title="NCI-ISBI 2013 (Prostate-3T and PROSTATE-DIAGNOSIS)",
        sites=("RUMC", "Boston"),
        sequences=("t2w",),
        labels="zones (peripheral zone, central gland)",
        licence="CC BY 3.0",
        size="80 labelled studies, one per patient: 60 training, 10 leaderboard, 10 test",
        origin="doi.org/10.7937/K9/TCIA.2015.zF0vlOPv (three .tcia image lists, three zip files of masks)",
        tree="""Prostate-3T/Prostate3T-0N-NNNN/<study>/<series>/*.dcm            also below manifest-*/
PROSTATE-DIAGNOSIS/ProstateDx-0N-NNNN/<study>/<series>/*.dcm
Prostate{3T,Dx}-0N-NNNN.nrrd             in any folder; ProstateDx-01-0006_correctedLabels.nrrd as published""",
    ),
}


class Importer(Protocol):
    """Reads a public set from `root`, case by case and in a stable order; nothing is downloaded.

    A mistake in a table raises DataError at the call, and so does a sequence that the set does not have and the study
    does not allow to be missing. One study that cannot be used goes to `on_error`: what that raises ends the import,
    and if it returns the study is left out.
    """

    def __call__(
        self,
        root: Path,
        grid: Grid,
        sequences: tuple[str, ...],
        centers: tuple[str, ...] = (),
        on_error: Callable[[DataError], None] = ...,
        allow_missing: tuple[str, ...] = (),
    ) -> Iterator[tuple[CaseRecord, Image, Masks]]:
        """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8; no `centers` means all.

        A sequence of `allow_missing` that a study lacks is a channel of zeros, and not in the record's `sequences`.
        """


class FileLister(Protocol):
    """Lists the studies of a public set as it lies below `root`: tables are read, images are not."""

    def __call__(self, root: Path) -> tuple[StudyFiles, ...]:
        """Return the studies by case id; raises DataError, a line per part that is missing or wrong."""


def get_entry(name: str) -> DatasetEntry:
    """Return the line of the table for `name`; raises ConfigurationError for another name."""
    if name not in DATASETS:
        raise ConfigurationError(f"unknown dataset '{name}'{nearest(name, DATASETS)}")
    return DATASETS[name]


def load_importer(name: str) -> Importer:
    """Return the importer DATASETS lists under `name`; raises ConfigurationError for another name."""
    return cast("Importer", _load(name, f"import_{get_entry(name).module}"))


def load_lister(name: str) -> FileLister:
    """Return the lister of the set DATASETS lists under `name`; raises ConfigurationError for another name."""
    return cast("FileLister", _load(name, "list_files"))


def stop(error: DataError) -> Never:
    """Raise the error of a study: the default `on_error`."""
    raise error


def _load(name: str, function: str) -> object:
    return getattr(import_module(f"prostafed.simulations.datasets.{get_entry(name).module}"), function)
