"""The heat map as a DICOM parametric map on the voxels of the T2W series."""

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from prostafed.client.predict.algorithm import BODY_PART, NO_UNIT, PROSTATE, RESEARCH, VOXEL_SCORE, Algorithm
from prostafed.client.predict.segmentation import measure_pixels
from prostafed.client.predict.source import SourceSeries
from prostafed.common.tasks.answer import FloatVolume

SERIES_NUMBER = 9102


def make_heat_map(
    heat: FloatVolume, source: SourceSeries, t2w: sitk.Image, algorithm: Algorithm
) -> hd.pm.ParametricMap:
    """Return `heat` (z, y, x) in [0, 1], float32, as a parametric map without a unit."""
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="score",
        lut_explanation=f"Score of csPCa per voxel, 0 to 1, {RESEARCH}",
        unit=NO_UNIT,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=VOXEL_SCORE,
    )
    heat_map = hd.pm.ParametricMap(
        source_images=source.images,
        pixel_array=np.ascontiguousarray(heat),
        series_number=SERIES_NUMBER,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_description=f"Heat map of csPCa, {RESEARCH}",
        pixel_measures=measure_pixels(t2w),
        series_description=f"prostafed heat map ({RESEARCH})",
        **algorithm.describe_object(),
    )
    source.refer(heat_map)
    heat_map.BodyPartExamined, heat_map.ContentCreatorName = BODY_PART, ""
    heat_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_describe_anatomy()]
    _run_along_normal(heat_map)
    return heat_map


def _run_along_normal(heat_map: hd.pm.ParametricMap) -> None:
    """Put frames in the order of their positions along rows x columns.

    Any order is right where each frame says where it lies, and highdicom's runs the other way; but dcmqi, with which 3D
    Slicer loads parametric maps, takes frames as they come and would show the map upside down.
    """
    frames = list(heat_map.PerFrameFunctionalGroupsSequence)
    plane = heat_map.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(*np.array(plane, dtype=np.float64).reshape(2, 3))
    positions = np.array([each.PlanePositionSequence[0].ImagePositionPatient for each in frames], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable").tolist()
    pixels = np.frombuffer(heat_map.FloatPixelData, dtype="<f4").reshape(len(frames), -1)
    heat_map.FloatPixelData = pixels[order].tobytes()
    heat_map.PerFrameFunctionalGroupsSequence = [frames[index] for index in order]
    for number, each in enumerate(heat_map.PerFrameFunctionalGroupsSequence, start=1):
        each.FrameContentSequence[0].DimensionIndexValues = [number]


def _describe_anatomy() -> Dataset:
    """Return the Frame Anatomy macro; dcmqi, with which 3D Slicer loads parametric maps, does not do without it."""
    anatomy = Dataset()
    anatomy.FrameLaterality = "U"
    anatomy.AnatomicRegionSequence = [hd.sr.CodedConcept.from_code(PROSTATE)]
    return anatomy
