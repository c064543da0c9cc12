"""How results name what made them, and the codes they use."""

from dataclasses import dataclass
from typing import Any

import highdicom as hd
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from prostafed.common.bundle.record import Bundle
from prostafed.common.tasks.answer import CANDIDATE, Segment

MAKER = "prostafed"
RESEARCH = "research use only"
FAMILY = codes.DCM.ArtificialIntelligence
PROSTATE = codes.SCT.Prostate
BODY_PART = "PROSTATE"  # DICOM's own term
NO_UNIT = Code("1", "UCUM", "no units")
SCHEME = "99PROSTAFED"
CASE_SCORE = Code("case-score", SCHEME, "Score of clinically significant prostate cancer")
VOXEL_SCORE = Code("voxel-score", SCHEME, "Score of clinically significant prostate cancer")
CANDIDATES = Code("candidates", SCHEME, "Lesion candidates")
CONFIDENCE = codes.DCM.CertaintyOfFinding
LESION = (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion)
ZONES = {"pz": codes.SCT.PeripheralZoneOfTheProstate, "tz": codes.SCT.TransitionZoneOfTheProstate}
STRUCTURE = codes.SCT.AnatomicalStructure


def code_segment(segment: Segment) -> tuple[Code, Code]:
    """Return what category and type of thing a segment is; a structure without a code of SNOMED's has one of ours."""
    if segment.kind == CANDIDATE:
        return LESION
    return STRUCTURE, ZONES.get(segment.kind) or Code(segment.kind, SCHEME, segment.label)


@dataclass(frozen=True)
class Algorithm:
    """The model of a bundle, as results name it."""

    name: str  # of the bundle
    version: str  # release and the weights' SHA-256
    model_sha256: str
    study_hash: str

    @property
    def parameters(self) -> dict[str, str]:
        """Return what, beside the version, says which model this was."""
        return {"model": self.model_sha256[:32], "study": self.study_hash[:32], "use": RESEARCH}

    @property
    def uid(self) -> str:
        """Return a UID of the model as a device: the same at every site."""
        return str(generate_uid(entropy_srcs=[MAKER, self.version]))

    def describe_object(self) -> dict[str, Any]:
        """Return the keywords every image has in common, in a series of its own."""
        return {
            "series_instance_uid": hd.UID(),
            "sop_instance_uid": hd.UID(),
            "instance_number": 1,
            "content_label": "PROSTAFED",
            "manufacturer": MAKER,
            "manufacturer_model_name": self.name[:64],
            "software_versions": self.version[:64],
            "device_serial_number": self.model_sha256[:16],
        }

    def identify(self) -> hd.AlgorithmIdentificationSequence:
        """Return how a segment names the algorithm."""
        return hd.AlgorithmIdentificationSequence(
            name=self.name[:64], family=FAMILY, version=self.version[:64], source=MAKER, parameters=self.parameters
        )

    def identify_in_report(self) -> hd.sr.AlgorithmIdentification:
        """Return how a structured report names the algorithm."""
        told = [f"{name}={value}" for name, value in self.parameters.items()]
        return hd.sr.AlgorithmIdentification(self.name, self.version, told, family=FAMILY, manufacturer=MAKER)


def name_algorithm(bundle: Bundle) -> Algorithm:
    """Return how results name the model of `bundle`."""
    return Algorithm(bundle.record.name, bundle.version, bundle.model_sha256, bundle.record.study_hash)
