"""Segments as a DICOM segmentation of the T2W series."""

import highdicom as hd
import numpy as np
import SimpleITK as sitk

from prostafed.client.predict.algorithm import BODY_PART, PROSTATE, RESEARCH, Algorithm, code_segment
from prostafed.client.predict.placing import Placed, Region
from prostafed.client.predict.source import SourceSeries

SERIES_NUMBER = 9101


def make_segmentation(
    placed: Placed, source: SourceSeries, t2w: sitk.Image, algorithm: Algorithm
) -> hd.seg.Segmentation:
    """Return the binary segmentation of `placed`, which has regions: one segment each, numbered as they are."""
    assert placed.labels is not None
    what = "Lesion candidates" if placed.regions[0].is_candidate else "Prostate structures"
    present = [region.number for region in placed.regions]
    labels = np.zeros_like(placed.labels)
    for number, label in enumerate(present, start=1):  # DICOM numbers segments without a gap
        labels[placed.labels == label] = number
    descriptions = [_describe(number, region, algorithm) for number, region in enumerate(placed.regions, start=1)]
    segmentation = hd.seg.Segmentation(
        source_images=source.images,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_number=SERIES_NUMBER,
        content_description=f"{what}, {RESEARCH}",
        pixel_measures=measure_pixels(t2w),
        series_description=f"prostafed {what.lower()} ({RESEARCH})",
        **algorithm.describe_object(),
    )
    source.refer(segmentation)
    segmentation.BodyPartExamined = BODY_PART
    return segmentation


def measure_pixels(t2w: sitk.Image) -> hd.PixelMeasuresSequence:
    """Return spacing and thickness as the stacked volume has them: headers may lack one, or call the gap something
    else.
    """
    x, y, z = (round(each, 6) for each in t2w.GetSpacing())
    return hd.PixelMeasuresSequence(pixel_spacing=(y, x), slice_thickness=z, spacing_between_slices=z)


def _describe(number: int, region: Region, algorithm: Algorithm) -> hd.seg.SegmentDescription:
    segment = region.segment
    category, kind = code_segment(segment)
    label, text = segment.label, f"{region.volume_ml:.1f} ml; {RESEARCH}"
    if segment.confidence is not None:
        label = f"{label}, confidence {segment.confidence:.2f}"
        text = f"Confidence {segment.confidence:.3f}, {region.volume_ml:.2f} ml; {RESEARCH}"
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm.identify(),
        tracking_uid=hd.UID(),
        tracking_id=label[:64],
        anatomic_regions=[PROSTATE],
    )
    description.SegmentDescription = text
    return description
