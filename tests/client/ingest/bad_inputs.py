"""Bad exports, one function each: what a hospital really sends, damaged in one way; and the code it must be answered
with.

A function gets an empty folder for the export, writes a damaged study into it, and may return the rows of a manifest
(studies.csv, as mappings; masks lie beside the export in ../manifest).
"""

import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from tests.client.ingest.tiny_study import PIXEL_MM, PIXELS, SLICE_MM, SLICES, Study, make_study, save_study

Rows = list[dict[str, str]]
Damage = Callable[[Path], Rows | None]
BAD_INPUTS: dict[str, tuple[str, Damage]] = {}  # name -> (code, function)


def damaged(code: str, name: str) -> Callable[[Callable[[Study], object]], Callable[[Study], object]]:
    """Register a function that changes the datasets of a study before they are written."""

    def register(change: Callable[[Study], object]) -> Callable[[Study], object]:
        def build(folder: Path) -> None:
            study = make_study()
            change(study)
            save_study(study, folder)

        BAD_INPUTS[name] = (code, build)
        return change

    return register


def built(code: str, name: str) -> Callable[[Damage], Damage]:
    """Register a function that writes the export itself."""

    def register(build: Damage) -> Damage:
        BAD_INPUTS[name] = (code, build)
        return build

    return register


def every(study: Study, *names: str) -> Iterable[Dataset]:
    """The datasets of these series; of all without names."""
    return (each for name in names or study for each in study[name])


def set_all(datasets: Iterable[Dataset], **values: object) -> None:
    for dataset in datasets:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)


def drop(study: Study, *prefixes: str) -> None:
    for name in [name for name in study if name.startswith(prefixes)]:
        del study[name]


# Files


@built("NO_DICOM", "an empty folder")
def _(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


@built("NO_DICOM", "only a letter and a spreadsheet")
def _(folder: Path) -> None:
    (folder / "letter").write_bytes(b"Dear colleague, " * 40)
    (folder / "list.csv").write_text("patient,psa\n1,4.5\n")


@built("NOT_DICOM", "a letter among the images")
def _(folder: Path) -> None:
    save_study(make_study(), folder)
    (folder / "t2w" / "letter").write_bytes(b"Dear colleague, " * 40)


@built("EMPTY_FILE", "a file of no bytes")
def _(folder: Path) -> None:
    save_study(make_study(), folder)
    (folder / "t2w" / "100.dcm").write_bytes(b"")


@built("UNREADABLE", "garbage after the preamble")
def _(folder: Path) -> None:
    save_study(make_study(), folder)
    (folder / "t2w" / "100.dcm").write_bytes(b"\0" * 128 + b"DICM" + bytes(range(256)) * 4)


def cut(folder: Path, share: float) -> None:
    path = save_study(make_study(), folder)[3]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


@built("TRUNCATED", "pixels cut in the middle")
def _(folder: Path) -> None:
    cut(folder, 0.6)


@built("TRUNCATED", "the last byte is missing")
def _(folder: Path) -> None:
    path = save_study(make_study(), folder)[3]
    path.write_bytes(path.read_bytes()[:-1])


@built("TRUNCATED", "cut inside the header")
def _(folder: Path) -> None:
    cut(folder, 0.2)


@built("ZIP_FOUND", "still zipped")
def _(folder: Path) -> None:
    inner = folder.parent / "inner"
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        for path in save_study(make_study(), inner):
            archive.write(path, path.relative_to(inner))
    shutil.rmtree(inner)


@built("SYMLINK_SKIPPED", "a link to a file")
def _(folder: Path) -> None:
    first = save_study(make_study(), folder)[0]
    (folder / "link.dcm").symlink_to(first)


@built("DUPLICATE_INSTANCE", "the same file twice")
def _(folder: Path) -> None:
    first = save_study(make_study(), folder)[0]
    shutil.copy(first, folder / "copy.dcm")


# Patients and studies


@damaged("SEVERAL_PATIENTS", "one study, two patients")
def _(study: Study) -> None:
    set_all(study["adc"], PatientID="P2")


@damaged("SEVERAL_PATIENTS", "one study and number, two dates of birth")
def _(study: Study) -> None:
    set_all(study["adc"], PatientBirthDate="19500101")
    set_all(study["t2w"], PatientBirthDate="19550101")


@built("SHARED_NUMBER", "two men of one number")
def _(folder: Path) -> None:
    for number in range(2):
        study = make_study("ANONYMOUS", seed=number)
        set_all(every(study), PatientBirthDate=f"195{number}0101")
        save_study(study, folder / str(number))


@built("SEVERAL_STUDIES", "two studies in one row's folder")
def _(folder: Path) -> Rows:
    save_study(make_study(seed=1), folder / "both" / "a")
    save_study(make_study(seed=2), folder / "both" / "b")
    return [{"case_id": "both", "dicom_dir": "both"}]


@damaged("ASK_ANATOMY", "a woman's prostate")
def _(study: Study) -> None:
    set_all(every(study), PatientSex="F")


@damaged("ASK_ANATOMY", "a brain")
def _(study: Study) -> None:
    set_all(every(study), BodyPartExamined="BRAIN")


@damaged("BURNED_IN", "text burned into the pixels")
def _(study: Study) -> None:
    set_all(every(study), BurnedInAnnotation="YES")


# Geometry


@damaged("DUPLICATE_POSITION", "two T2 slices in one place")
def _(study: Study) -> None:
    study["t2w"][3].ImagePositionPatient = study["t2w"][2].ImagePositionPatient


@damaged("DUPLICATE_POSITION", "two ADC slices in one place")
def _(study: Study) -> None:
    study["adc"][3].ImagePositionPatient = study["adc"][2].ImagePositionPatient


@damaged("MISSING_SLICE", "a T2 slice is missing")
def _(study: Study) -> None:
    del study["t2w"][3]


@damaged("MISSING_SLICE", "an ADC slice is missing")
def _(study: Study) -> None:
    del study["adc"][3]


@damaged("MISSING_SLICE", "a slice of one b-value is missing")
def _(study: Study) -> None:
    drop(study, "adc")
    del study["dwi400"][3]


@damaged("MISSING_SLICE", "the first T2 slice is missing")
def _(study: Study) -> None:
    del study["t2w"][0]


@damaged("MIXED_SIZE", "a T2 slice of another size")
def _(study: Study) -> None:
    other = study["t2w"][3]
    other.Rows = PIXELS // 2
    other.PixelData = other.PixelData[: len(other.PixelData) // 2]


@damaged("MIXED_SPACING", "a T2 slice of another pixel spacing")
def _(study: Study) -> None:
    study["t2w"][3].PixelSpacing = [PIXEL_MM * 1.2, PIXEL_MM * 1.2]


def without(keyword: str) -> Callable[[Study], None]:
    def change(study: Study) -> None:
        for dataset in every(study, "t2w"):
            delattr(dataset, keyword)

    return change


for keyword in ("ImagePositionPatient", "PixelSpacing"):
    damaged("NO_GEOMETRY", f"no {keyword}")(without(keyword))
damaged("NO_T2", "no ImageOrientationPatient: the plane is unknown")(without("ImageOrientationPatient"))


@damaged("NO_GEOMETRY", "a T2 slice without a position")
def _(study: Study) -> None:
    del study["t2w"][3].ImagePositionPatient


@damaged("NO_GEOMETRY", "a pixel spacing of zero")
def _(study: Study) -> None:
    set_all(study["t2w"], PixelSpacing=[0, 0])


@damaged("BAD_ORIENTATION", "rows that are not at right angles to columns")
def _(study: Study) -> None:
    set_all(study["t2w"], ImageOrientationPatient=[1, 0, 0, 0.2, 0.98, 0])


@damaged("BAD_ORIENTATION", "a T2 slice that is tilted")
def _(study: Study) -> None:
    study["t2w"][3].ImageOrientationPatient = [1, 0, 0, 0, 0.9950, 0.0998]


@damaged("SHEARED", "slices that drift sideways")
def _(study: Study) -> None:
    for index, dataset in enumerate(study["t2w"]):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 0.8 * index, y, z]


@damaged("LOW_OVERLAP", "an ADC of another body region")
def _(study: Study) -> None:
    drop(study, "dwi")
    for dataset in study["adc"]:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 200, y, z]


# Series


@damaged("NO_T2", "no T2")
def _(study: Study) -> None:
    drop(study, "t2w")


@damaged("NO_T2", "T2 is sagittal only")
def _(study: Study) -> None:
    set_all(study["t2w"], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for index, dataset in enumerate(study["t2w"]):
        dataset.ImagePositionPatient = [index * SLICE_MM, 0, 0]


@damaged("NO_T2", "a CT")
def _(study: Study) -> None:
    set_all(every(study), Modality="CT")


@damaged("SEVERAL_T2_AX", "two axial T2")
def _(study: Study) -> None:
    study["again"] = deepcopy(study["t2w"])
    uid = generate_uid()
    for dataset in study["again"]:
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


@damaged("SET_ASIDE", "a sagittal image at the end of the axial T2")
def _(study: Study) -> None:
    other = deepcopy(study["t2w"][0])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    other.ImageOrientationPatient, other.InstanceNumber = [0, 1, 0, 0, 0, -1], 99
    study["t2w"].append(other)


def colour(datasets: Iterable[Dataset]) -> None:
    for dataset in datasets:
        grey = np.frombuffer(dataset.PixelData, "<u2").astype(np.uint8)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = np.repeat(grey, 3).tobytes()


@damaged("COLOUR_SKIPPED", "the ADC map is a colour picture")
def _(study: Study) -> None:
    colour(study["adc"])


@damaged("COLOUR_SKIPPED", "the pixels of the ADC map are places in a table of colours")
def _(study: Study) -> None:
    set_all(study["adc"], PhotometricInterpretation="PALETTE COLOR")


@damaged("MOSAIC", "the diffusion series is a mosaic")
def _(study: Study) -> None:
    set_all(every(study, "dwi50", "dwi400", "dwi800"), ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "MOSAIC"])


# Diffusion


@damaged("ADC_UNITS", "an ADC map in units nobody knows")
def _(study: Study) -> None:
    set_all(study["adc"], RescaleSlope=0.013, RescaleIntercept=0)


@damaged("BAD_RESCALE", "a rescale slope of zero")
def _(study: Study) -> None:
    set_all(study["adc"], RescaleSlope=0, RescaleIntercept=0)


@damaged("BAD_RESCALE", "a rescale slope that is a word")
def _(study: Study) -> None:
    for dataset in study["adc"]:
        dataset[0x0028_1053] = RawDataElement(Tag(0x0028_1053), "LO", 4, b"one ", 0, False, True)


@damaged("INVERTED", "an ADC map in MONOCHROME1")
def _(study: Study) -> None:
    set_all(study["adc"], PhotometricInterpretation="MONOCHROME1")


@damaged("INVERTED", "a T2 slice in MONOCHROME1 among others")
def _(study: Study) -> None:
    set_all(study["t2w"][3:4], PhotometricInterpretation="MONOCHROME1")


@damaged("FRAME_OF_REFERENCE", "an ADC map with another frame of reference")
def _(study: Study) -> None:
    set_all(study["adc"], FrameOfReferenceUID=generate_uid())


@damaged("MIXED_DIFFUSION", "one b-value at another echo time")
def _(study: Study) -> None:
    drop(study, "adc")
    set_all(study["dwi400"], EchoTime=90)


@damaged("MIXED_DIFFUSION", "one b-value at another repetition time")
def _(study: Study) -> None:
    drop(study, "adc")
    set_all(study["dwi400"], RepetitionTime=6000)


@damaged("MIXED_DIFFUSION", "one b-value 8 mm aside")
def _(study: Study) -> None:
    drop(study, "adc")
    for dataset in study["dwi400"]:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 8, y, z]


@damaged("MISSING_SLICE", "one b-value was interrupted")
def _(study: Study) -> None:
    drop(study, "adc")
    del study["dwi400"][5:]


@damaged("ASK_MAP", "a map that only its description tells, and no images to hold it against")
def _(study: Study) -> None:
    drop(study, "dwi400", "dwi800")
    set_all(study["adc"], ImageType=["DERIVED", "SECONDARY", "PROCESSED"], SeriesDescription="Koeffizient")
    set_all(study["adc"], DiffusionBValue=800.0)


@damaged("NO_ADC", "only one b-value and no ADC map")
def _(study: Study) -> None:
    drop(study, "adc", "dwi400", "dwi800", "hbv")


@damaged("NO_ADC", "no diffusion at all")
def _(study: Study) -> None:
    drop(study, "adc", "dwi", "hbv")


@damaged("NO_HBV", "an ADC map and nothing to compute a high b from")
def _(study: Study) -> None:
    drop(study, "dwi", "hbv")


def forget_b_values(study: Study) -> None:
    for dataset in every(study, "dwi50", "dwi400", "dwi800", "hbv"):
        del dataset.DiffusionBValue
        dataset.SeriesDescription = "ep2d_diff_tra"


damaged("NO_BVALUE", "no b-values in the headers")(forget_b_values)


@damaged("B_VALUES_WRONG", "every image says b=800, the signals differ")
def _(study: Study) -> None:
    drop(study, "hbv")
    set_all(every(study, "dwi50", "dwi400", "dwi800"), DiffusionBValue=800.0)
    for name in ("dwi50", "dwi400", "dwi800"):
        uid = generate_uid()
        set_all(study[name], SeriesInstanceUID=uid)


# Pixels


@damaged("NO_DECODER", "a compression no decoder knows")
def _(study: Study) -> None:
    from pydicom.encaps import encapsulate

    for dataset in study["t2w"]:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4, a video
        dataset.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" * 8])
        dataset["PixelData"].is_undefined_length = True


@damaged("LOSSY", "compressed with loss")
def _(study: Study) -> None:
    set_all(study["t2w"], LossyImageCompression="01", LossyImageCompressionRatio=12)


@damaged("BLANK", "a T2 of zeros")
def _(study: Study) -> None:
    set_all(study["t2w"], PixelData=bytes(2 * PIXELS * PIXELS))


@damaged("BLANK", "a high b of one value")
def _(study: Study) -> None:
    set_all(study["hbv"], PixelData=np.full(PIXELS**2, 7, "<u2").tobytes())


@damaged("NOT_FINITE", "a rescale slope that is no number")
def _(study: Study) -> None:
    for dataset in study["t2w"]:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype("<f4")
        pixels[5] = np.nan
        del dataset.PixelData
        dataset.FloatPixelData = pixels.tobytes()
        dataset.BitsAllocated = 32


@damaged("PIRADS_MINIMUM", "T2 pixels of 0.8 mm")
def _(study: Study) -> None:
    set_all(every(study), PixelSpacing=[2 * PIXEL_MM, 2 * PIXEL_MM])
    for dataset in every(study):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [2 * x, 2 * y, z]


# Labels


def labelled(folder: Path, mask: np.ndarray | None = None, away_mm: float = 0.0, **cells: str) -> Rows:
    """Write a good study, and a manifest row for it; `mask` (z, y, x) becomes its lesion mask."""
    save_study(make_study(), folder / "a")
    row = {"case_id": "a", "dicom_dir": "a", **cells}
    if mask is not None:
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        half = (PIXELS - 1) / 2 * PIXEL_MM
        image.SetSpacing((PIXEL_MM, PIXEL_MM, SLICE_MM))
        image.SetOrigin((-half + away_mm, -half, 0.0))
        masks = folder.parent / "manifest"
        masks.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(masks / "lesion.nii.gz"))
        row |= {"lesion_mask": "lesion.nii.gz", "mask_space": "t2w"}
    return [row]


def blob(value: int = 1) -> np.ndarray:
    mask = np.zeros((SLICES, PIXELS, PIXELS))
    mask[3:6, 12:20, 12:20] = value
    return mask


@built("MASK_SPACE", "a lesion mask of another patient")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(), away_mm=300, mask_coding="binary", case_csPCa="YES")


@built("MASK_SPACE", "a lesion mask mirrored against the gland")
def _(folder: Path) -> Rows:
    cells = labelled(folder, blob(), mask_coding="binary", case_csPCa="YES")
    masks = folder.parent / "manifest"
    lesion = sitk.ReadImage(str(masks / "lesion.nii.gz"))
    gland = sitk.GetImageFromArray(np.roll(blob(), -6, axis=2).astype(np.uint8))
    gland.CopyInformation(lesion)
    sitk.WriteImage(gland, str(masks / "gland.nii.gz"))
    return [{**row, "gland_mask": "gland.nii.gz"} for row in cells]


@built("MASK_LABEL", "a lesion mask with a label nobody knows")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(7), mask_coding="isup", case_csPCa="YES")


@built("MASK_LABEL", "a binary lesion mask that holds grades")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(3), mask_coding="binary", case_csPCa="YES")


@built("MASK_EMPTY", "an empty lesion mask")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(0), mask_coding="binary")


@built("LABEL_CONFLICT", "csPCa with an empty lesion mask")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(0), mask_coding="binary", case_csPCa="YES")


@built("LABEL_CONFLICT", "no csPCa but a lesion")
def _(folder: Path) -> Rows:
    return labelled(folder, blob(), mask_coding="binary", case_csPCa="NO")


@built("LABEL_CONFLICT", "ISUP 3 called insignificant")
def _(folder: Path) -> Rows:
    return labelled(folder, case_ISUP="3", case_csPCa="NO")


def out_of_range(name: str, **cells: str) -> None:
    def build(folder: Path) -> Rows:
        return labelled(folder, **cells)

    built("LABEL_RANGE", name)(build)


out_of_range("ISUP 7", case_ISUP="7")
out_of_range("PSA below a limit", psa="<0.1")
out_of_range("PSA with a decimal comma", psa="4,5")
out_of_range("a patient of 7 years", patient_age="7")
out_of_range("a volume of 900 ml", prostate_volume="900")
out_of_range("a PSA that is a word", psa="normal")


@built("PSAD", "a PSA density that does not fit")
def _(folder: Path) -> Rows:
    return labelled(folder, psa="10", prostate_volume="50", psad="0.4")


def cells_of(rows: Rows, columns: Iterable[str]) -> list[Mapping[str, str]]:
    """Return rows with every column, blank where they say nothing."""
    return [{column: row.get(column, "") for column in columns} for row in rows]
