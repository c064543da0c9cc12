"""A delineation as a DICOM segmentation."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import highdicom as hd
import pydicom
from pydicom.sr.codedict import codes

from prostafed.common.shell.files import write_bytes
from prostafed.simulations.dicom.classic import make_uid
from prostafed.simulations.phantom.masks import Mask


def write_seg(path: Path, mask: Mask, sources: Sequence[Path], labels: Sequence[str]) -> None:
    """Write a DICOM segmentation of the series in `sources` (its files in slice order, or the one multi-frame file).

    Segment n, called labels[n - 1], is where `mask` is n; an all-empty mask cannot be one and raises ValueError.
    """
    if not mask.any():
        raise ValueError("A DICOM segmentation needs at least one voxel, found an empty mask.")
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Prostate,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(labels, start=1)
    ]
    images = [pydicom.dcmread(source) for source in sources]
    seg = hd.seg.Segmentation(
        source_images=images,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=make_uid(images[0].SOPInstanceUID, path.stem, "series"),
        series_number=900,
        sop_instance_uid=make_uid(images[0].SOPInstanceUID, path.stem, "instance"),
        instance_number=1,
        manufacturer="prostafed",
        manufacturer_model_name="GENERATED",
        software_versions="1",
        device_serial_number="GENERATED",
    )
    content = BytesIO()
    seg.save_as(content)
    write_bytes(path, content.getvalue())
