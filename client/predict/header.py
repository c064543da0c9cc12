"""Headers that results can be made from: what is wrong in them is left out, what must be there is made.

A result carries patient and study as the images have them, and refers to the images. Exports lack some of that: they
are anonymised, cut down, or of a scanner that takes liberties.
"""

from collections.abc import Sequence
from io import BytesIO

from highdicom import PatientSexValues, SpecificCharacterSetValues
from pydicom import dcmwrite
from pydicom.config import RAISE
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, EnhancedMRImageStorage, MRImageStorage, generate_uid
from pydicom.valuerep import validate_value

from prostafed.client.predict.algorithm import MAKER

# What DICOM wants in every object, empty where not known.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0032, 0x0040)  # hold what highdicom reads or takes over
_STRICT = ("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI")  # texts whose form is prescribed
_UTF8 = "ISO_IR 192"


def mend_headers(datasets: Sequence[Dataset], study: str) -> tuple[str, ...]:
    """Change the headers of one series, such that results can be made from them; return the keywords of what had to be
    left out or made, sorted.

    `study` stands for the study where a UID must be made: the same one gives the same UIDs.
    """
    first = datasets[0]
    said = _drop_unsound(first)
    _take_utf8(first)
    for keyword in _MAY_BE_EMPTY:
        if keyword not in first:
            setattr(first, keyword, "")
    if first.PatientSex and first.PatientSex not in {each.value for each in PatientSexValues}:
        first.PatientSex = ""
        said.add("PatientSex")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        found = _get_uid(first, keyword)
        if not found:
            said.add(keyword)
        for each in datasets:  # of one series, so they have one
            setattr(each, keyword, found or _make_uid(study, keyword))
    for number, each in enumerate(datasets):
        if not each.get("Modality"):
            each.Modality = "MR"  # its class said so
        if not _get_uid(each, "SOPInstanceUID"):
            each.SOPInstanceUID = _make_uid(study, f"SOPInstanceUID {number}")
            said.add("SOPInstanceUID")
        if not _get_uid(each, "SOPClassUID"):
            each.SOPClassUID = EnhancedMRImageStorage if "NumberOfFrames" in each else MRImageStorage
            said.add("SOPClassUID")
    return tuple(sorted(said))


def _drop_unsound(dataset: Dataset) -> set[str]:
    """Remove what results would take over and DICOM does not allow; return its keywords."""
    said = set()
    for tag in sorted(dataset.keys()):
        if tag.group not in _GROUPS:
            continue
        try:
            _check(dataset[tag])
        except Exception:  # pydicom raises anything at all for a value that is not what its element says
            keyword = keyword_for_tag(tag)
            if tag.group in (0x0010, 0x0012) or keyword.startswith("Study") or keyword in _MAY_BE_EMPTY:
                said.add(keyword or f"({tag.group:04x},{tag.element:04x})")
            del dataset[tag]
    return said


def _check(element: DataElement) -> None:
    """Raise an exception for a value that is not of its element's kind, or cannot be written."""
    values = element.value if element.VM > 1 else [element.value] if element.VM else []
    if element.VR in _STRICT:
        for value in values:
            validate_value(element.VR, str(value), RAISE)
    if element.VM > 1 and (element.VR in ("DA", "TM") or element.keyword == "PatientName"):
        raise ValueError
    alone = Dataset()
    nowhere = BytesIO()
    alone.add(element)
    dcmwrite(nowhere, alone, implicit_vr=False, little_endian=True)


def _take_utf8(dataset: Dataset) -> None:
    """Decode all texts, to be written as UTF-8, where the results could not name the character set of the header.

    Of several character sets the first may be empty (ASCII), as in Japan and Korea: highdicom takes none that is.
    """
    named = dataset.get("SpecificCharacterSet")
    if not named:
        dataset.pop("SpecificCharacterSet", None)
    elif not isinstance(named, str) or named not in {each.value for each in SpecificCharacterSetValues}:
        dataset.decode()
        dataset.SpecificCharacterSet = _UTF8


def _get_uid(dataset: Dataset, keyword: str) -> str:
    """Return a UID, "" where there is none that is one."""
    try:
        value = dataset.get(keyword)
    except Exception:  # as above
        return ""
    return str(value) if isinstance(value, UID) and value.is_valid else ""


def _make_uid(study: str, what: str) -> str:
    return str(generate_uid(entropy_srcs=[MAKER, study, what]))
