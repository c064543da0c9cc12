"""Enhanced multi-frame MR images (PS3.3 A.36): one file per series, what differs between frames in functional groups.

The frames of a diffusion series run over the b-values of a slice first, as in the enhanced file of an Achieva. An ADC
map has a real-world value map: concept 113041 (DCM), unit mm2/s.
"""

from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage

from prostafed.simulations.dicom import philips
from prostafed.simulations.dicom.classic import (
    add_pixels,
    add_rescale,
    format_number,
    format_orientation,
    list_slices,
    make_uid,
    start_dataset,
)
from prostafed.simulations.dicom.scan import Scan, Volume
from prostafed.simulations.dicom.style import Encoding, Identity, Style

_IMAGE_TYPES = {
    "localizer": ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"],
    "t2w": ["ORIGINAL", "PRIMARY", "T2", "NONE"],
    "dwi": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
    "adc": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
    "calculated": ["DERIVED", "PRIMARY", "DIFFUSION", "CALC_BVALUE"],
}
_CONTRASTS = {"localizer": "UNKNOWN", "t2w": "T2"}
_DIMENSIONS = (("StackID", "FrameContentSequence"), ("InStackPositionNumber", "FrameContentSequence"))


def make_multi_frame(identity: Identity, style: Style, scan: Scan, number: int) -> Dataset:
    """Return the one file of series `number`."""
    encoding = style.encode(scan)
    order = list_slices(scan, style.slice_by_slice)
    dataset = start_dataset(identity, style, number, 1, EnhancedMRImageStorage)
    dataset.ContentDate = dataset.StudyDate
    dataset.AcquisitionDateTime = dataset.StudyDate + dataset.SeriesTime
    dataset.AcquisitionDuration = 120.0
    dataset.MRAcquisitionType, dataset.ResonantNucleus, dataset.KSpaceFiltering = "2D", "1H", "NONE"
    dataset.ApplicableSafetyStandardAgency, dataset.ContentQualification = "IEC", "RESEARCH"
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique, dataset.ComplexImageComponent = "NONE", "MAGNITUDE"
    dataset.LossyImageCompression, dataset.PresentationLUTShape = "00", "IDENTITY"
    style.dress(dataset, scan, scan.volumes[0])
    _add_dimensions(dataset, scan)
    dataset.NumberOfFrames = len(order)
    dataset.SharedFunctionalGroupsSequence = [_share(scan, encoding, dataset.ImageType)]
    dataset.PerFrameFunctionalGroupsSequence = [_describe_frame(dataset, scan, *pair) for pair in order]
    frames = np.stack([encoding.store(scan.volumes[which].values[index]) for which, index in order])
    add_pixels(dataset, frames, encoding)
    return dataset


def _encode(scan: Scan) -> Encoding:
    return replace(philips.encode(scan), rescale_type="US")


def _dress(dataset: Dataset, scan: Scan, volume: Volume) -> None:
    dataset.ImageType = _IMAGE_TYPES[scan.kind]
    dataset.AcquisitionContrast = _CONTRASTS.get(scan.kind, "DIFFUSION")
    dataset.SeriesDescription = dataset.ProtocolName = philips.name_scan(scan)
    dataset.EchoPulseSequence = "SPIN"
    dataset.PulseSequenceName = "DwiSE" if scan.kind == "dwi" else "TSE"


def _add_dimensions(dataset: Dataset, scan: Scan) -> None:
    organization = make_uid(dataset.SOPInstanceUID, "dimensions")
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    pointers = [*_DIMENSIONS, *([("DiffusionBValue", "MRDiffusionSequence")] if scan.kind == "dwi" else [])]
    dataset.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization, DimensionIndexPointer=Tag(keyword), FunctionalGroupPointer=Tag(group)
        )
        for keyword, group in pointers
    ]


def _share(scan: Scan, encoding: Encoding, image_type: list[str]) -> Dataset:
    shared = Dataset()
    timing = _item(RepetitionTime=format_number(scan.repetition_ms), FlipAngle="90", EchoTrainLength=25)
    shared.MRTimingAndRelatedParametersSequence = [timing]
    shared.MREchoSequence = [_item(EffectiveEchoTime=float(scan.echo_ms))]
    shared.MRImageFrameTypeSequence = [
        _item(
            FrameType=image_type,
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
            ComplexImageComponent="MAGNITUDE",
            AcquisitionContrast=_CONTRASTS.get(scan.kind, "DIFFUSION"),
        )
    ]
    placement = scan.volumes[0].placement
    thickness = format_number(placement.slice_mm)
    spacing = [format_number(each) for each in placement.pixel_mm]
    shared.PixelMeasuresSequence = [
        _item(SliceThickness=thickness, SpacingBetweenSlices=thickness, PixelSpacing=spacing)
    ]
    shared.FrameAnatomySequence = [
        _item(
            FrameLaterality="U",
            AnatomicRegionSequence=[_item(CodeValue="41216001", CodingSchemeDesignator="SCT", CodeMeaning="Prostate")],
        )
    ]
    if scan.kind != "localizer":
        shared.PlaneOrientationSequence = [_orient(scan.volumes[0])]
    transformation = Dataset()
    add_rescale(transformation, encoding)
    shared.PixelValueTransformationSequence = [transformation]
    if scan.kind == "adc":
        shared.RealWorldValueMappingSequence = [_map_to_adc(encoding)]
    return shared


def _describe_frame(dataset: Dataset, scan: Scan, which: int, index: int) -> Dataset:
    frame, volume = Dataset(), scan.volumes[which]
    # A localizer's planes are stacks of their own; the b-values of a series share one.
    stack = which + 1 if scan.kind == "localizer" else 1
    indices = [stack, index + 1, *([which + 1] if scan.kind == "dwi" else [])]
    frame.FrameContentSequence = [
        _item(
            FrameAcquisitionDateTime=dataset.AcquisitionDateTime,
            FrameReferenceDateTime=dataset.AcquisitionDateTime,
            FrameAcquisitionDuration=1.0,
            StackID=str(stack),
            InStackPositionNumber=index + 1,
            DimensionIndexValues=indices,
        )
    ]
    position = [format_number(each) for each in volume.placement.position(index)]
    frame.PlanePositionSequence = [_item(ImagePositionPatient=position)]
    if scan.kind == "localizer":
        frame.PlaneOrientationSequence = [_orient(volume)]
    b_value = volume.b_value_s_per_mm2
    if b_value is not None:
        directionality = "ISOTROPIC" if b_value else "NONE"
        frame.MRDiffusionSequence = [_item(DiffusionBValue=float(b_value), DiffusionDirectionality=directionality)]
    return frame


def _orient(volume: Volume) -> Dataset:
    return _item(ImageOrientationPatient=format_orientation(volume.placement))


def _map_to_adc(encoding: Encoding) -> Dataset:
    """The stored value's meaning: slope to mm2/s."""
    unit = _item(CodeValue="mm2/s", CodingSchemeDesignator="UCUM", CodeMeaning="mm2/s")
    adc = _item(CodeValue="113041", CodingSchemeDesignator="DCM", CodeMeaning="Apparent Diffusion Coefficient")
    quantity = _item(CodeValue="246205007", CodingSchemeDesignator="SCT", CodeMeaning="Quantity")
    return _item(
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=2**encoding.bits_stored - 1,
        RealWorldValueIntercept=encoding.intercept * 1e-6,
        RealWorldValueSlope=encoding.slope * 1e-6,
        LUTExplanation="ADC",
        LUTLabel="ADC",
        MeasurementUnitsCodeSequence=[unit],
        QuantityDefinitionSequence=[
            _item(ValueType="CODE", ConceptNameCodeSequence=[quantity], ConceptCodeSequence=[adc])
        ],
    )


def _item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


ENHANCED = Style(
    "Philips Medical Systems", "Ingenia GENERATED", "5.7.1", "philips", _encode, _dress, slice_by_slice=True,
    enhanced=True,
)  # fmt: skip
