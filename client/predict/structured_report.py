"""What the model says of a case as a DICOM structured report: TID 1500, Measurement Report."""

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from prostafed.client.predict.algorithm import (
    CANDIDATES,
    CASE_SCORE,
    CONFIDENCE,
    MAKER,
    NO_UNIT,
    PROSTATE,
    RESEARCH,
    SCHEME,
    Algorithm,
    code_segment,
)
from prostafed.client.predict.placing import Placed, Region
from prostafed.client.predict.source import SourceSeries

SERIES_NUMBER = 9103
PROCEDURE = Code("113091000", "SCT", "Magnetic resonance imaging")
_ML = Code("mL", "UCUM", "milliliter")
Group = (
    hd.sr.MeasurementsAndQualitativeEvaluations
    | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
)


def make_report(
    placed: Placed,
    source: SourceSeries,
    segmentation: hd.seg.Segmentation | None,
    others: Sequence[Dataset],
    algorithm: Algorithm,
    min_confidence: float,
) -> hd.sr.ComprehensiveSR:
    """Return the report: the case's score and quantities, and a group per region that refers to its segment in
    `segmentation`.

    Without a candidate it says that none reached `min_confidence`. `others` are further results it names as evidence.
    """
    groups: list[Group] = []
    if placed.score is not None or placed.quantities:
        groups.append(_describe_case(placed, algorithm, min_confidence))
    if segmentation is not None:
        groups += [
            _describe_region(number, region, segmentation, source, algorithm)
            for number, region in enumerate(placed.regions, start=1)
        ]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=algorithm.uid,
        name=f"{MAKER} ({RESEARCH})",
        manufacturer_name=MAKER,
        model_name=algorithm.name,
        serial_number=algorithm.model_sha256[:16],
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=PROCEDURE,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=list(source.datasets) if source.joined is None else None,  # the library is for classic images
    )
    results = [*([] if segmentation is None else [segmentation]), *others]
    return hd.sr.ComprehensiveSR(
        evidence=[*source.datasets, *results],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        is_final=False,
        series_description=f"prostafed report ({RESEARCH})",
    )


def _describe_case(placed: Placed, algorithm: Algorithm, min_confidence: float) -> Group:
    measurements = [] if placed.score is None else [_measure(CASE_SCORE, placed.score, NO_UNIT)]
    for each in placed.quantities:
        unit = Code(each.unit, "UCUM", each.unit) if each.unit else NO_UNIT
        measurements.append(_measure(Code(each.name, SCHEME, each.label), each.value, unit))
    said = []
    if placed.heat is not None:
        found = len(placed.regions)
        text = (
            f"{found} of confidence {min_confidence:.2f} or more"
            if found
            else f"None of confidence {min_confidence:.2f} or more"
        )
        said.append(hd.sr.QualitativeEvaluation(CANDIDATES, Code(f"found-{found}", SCHEME, text)))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), f"Case, {RESEARCH}"),
        finding_sites=[hd.sr.FindingSite(PROSTATE)],
        algorithm_id=algorithm.identify_in_report(),
        measurements=measurements,
        qualitative_evaluations=said,
    )


def _describe_region(
    number: int, region: Region, segmentation: hd.seg.Segmentation, source: SourceSeries, algorithm: Algorithm
) -> Group:
    description = segmentation.get_segment_description(number)
    measurements = [_measure(codes.SCT.Volume, region.volume_ml, _ML)]
    if region.segment.confidence is not None:
        measurements.insert(0, _measure(CONFIDENCE, 100 * region.segment.confidence, codes.UCUM.Percent))
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(description.tracking_uid, description.tracking_id),
        referenced_segment=hd.sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            number,
            source_series=hd.sr.SourceSeriesForSegmentation(source.datasets[0].SeriesInstanceUID),
        ),
        finding_type=code_segment(region.segment)[1],
        finding_sites=[hd.sr.FindingSite(PROSTATE)],
        algorithm_id=algorithm.identify_in_report(),
        measurements=measurements,
    )


def _measure(name: Code, value: float, unit: Code) -> hd.sr.Measurement:
    return hd.sr.Measurement(name=name, value=float(f"{value:.6g}"), unit=unit)
