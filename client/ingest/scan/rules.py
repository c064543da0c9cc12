"""The rules that say what a series is, in order; the first that holds decides.

The scanner's own word (ImageType, b-values, codes) goes before what people call a series. Words are matched whole:
"fusion" is inside "diffusion".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from prostafed.client.ingest.records import Header, Kind, Plane

ADC_CODE = "113041"  # DCM: apparent diffusion coefficient
T2_ECHO_TIME_MS, T2_REPETITION_TIME_MS = 60.0, 1500.0
LEAST_CALCULATED = 1000.0  # s/mm2: lower b-values are not worth calculating
SHORT_REPETITION_TIME_MS = 100.0  # of gradient echoes repeated while a contrast agent arrives


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    header: Header
    words: str
    types: frozenset[str]  # ImageType in single words, upper case
    plane: Plane
    b_values: frozenset[float]

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Whether the words match."""
        return bool(pattern.search(self.words))


def _compile(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives))


_MADE = frozenset(("MPR", "MIP", "MINIP", "SUB", "SUBTRACT", "SUBTRACTION", "PROJECTION", "RESAMPLED", "FA", "SCREEN"))
_LOCALIZER = _compile(r"\bloc\b", r"locali[sz]", r"scout", r"\bsurvey", r"\b3 ?pl(?:ane)?\b")
_DERIVED = _compile(r"\bsub\b", r"\bsubtract", r"\bmip\b", r"\bmpr\b", r"\bfusion", r"\bscreen ?sav", r"\bposdisp\b")
_ADC = _compile(r"\b[a-z]{0,3}adc", r"apparent diff")  # with the prefixes of Philips and others: dADC, isoADC
_EXPONENTIAL = _compile(r"\be+adc", r"\bexponential", r"\bexp\b")
_DIFFUSION = _compile(
    *(r"dwi", r"\bdw\b", r"\bdiff", r"\b[a-z]{0,2}difus", r"\b[a-z]?dif\b", r"\btrace", r"\bivim\b"),
    r"\b[ds]{0,2}b ?\d{2,4}(?:t|iso)?\b",  # b50, b 1400, sb800 (Philips), ep b50t (a Siemens sequence name)
)
_CALCULATED = _compile(r"\bcalc", r"\bsynt", r"\bcomputed\b")
_DYNAMIC = _compile(
    *(r"\b[a-z]{0,2}dyn", r"\bdinamic", r"\bdce\b", r"\bperf"),
    *(r"\bvibe", r"\blava", r"\btwist", r"thrive", r"\bdisco\b"),
)
_T1 = _compile(r"\b[a-z]?t1")
_MAP = _compile(r"\bmap\b", r"\bmapping\b", r"\bsymri\b", r"\bmagic\b", r"t2 ?(?:star|\*)")
_FAT = _compile(
    *(r"\bfs\b", r"\bfat ?sat", r"\bspai?r\b", r"\bspir\b", r"stir\b", r"\btirm\b", r"dixon", r"\bflair\b"),
    r"\bir\b",  # inversion recovery, from ScanningSequence
)
_SINGLE_SHOT = _compile(r"mrcp", r"\bhaste", r"\bssfse\b", r"\bssh", r"trufi", r"\bfiesta", r"\bb?[tf]fe\b")
_ECHO_PLANAR = _compile(r"\bepi?\b", r"\bep2d")
_T2 = _compile(r"t2(?!\d)")


def _is_derived(facts: Facts) -> bool:
    return bool(_MADE & facts.types) or facts.says(_DERIVED)


def _has_diffusion(facts: Facts) -> bool:
    return bool({"DIFFUSION", "TRACEW"} & facts.types) or any(value > 0 for value in facts.b_values)


def _is_signal(facts: Facts) -> bool:
    """Whether these are diffusion-weighted images, whatever their name: protocols are named "DWI + ADC"."""
    return bool({"TRACEW", "CALC"} & facts.types) or {"ORIGINAL", "M"} <= facts.types or len(facts.b_values) > 1


def _is_exponential(facts: Facts) -> bool:
    return bool({"EXP", "EADC"} & facts.types) or ("ADC" not in facts.types and facts.says(_EXPONENTIAL))


def _is_diffusion(facts: Facts) -> bool:
    return _has_diffusion(facts) or facts.says(_DIFFUSION)


def _is_calculated(facts: Facts) -> bool:
    """By the scanner's word; by a name only where nothing says acquired: protocols are named after all they make."""
    if any(each.startswith("CALC") for each in facts.types) or re.search(r"calc ?b ?val", facts.words):
        return True
    is_acquired = len(facts.b_values) > 1 or any(value < LEAST_CALCULATED for value in facts.b_values)
    is_trace = "TRACEW" in facts.types or "tracew" in facts.words
    return facts.says(_CALCULATED) and not is_acquired and not is_trace


def _is_quick(facts: Facts) -> bool:
    repetition = facts.header.repetition_time_ms
    return repetition is not None and repetition < SHORT_REPETITION_TIME_MS


def _is_long(time_ms: float | None, least_ms: float) -> bool:
    return time_ms is not None and time_ms >= least_ms


def _is_t2_weighted(facts: Facts) -> bool:
    header = facts.header
    return _is_long(header.echo_time_ms, T2_ECHO_TIME_MS) and _is_long(header.repetition_time_ms, T2_REPETITION_TIME_MS)


Rule = tuple[Kind, str, Callable[[Facts], bool]]
RULES: tuple[Rule, ...] = (
    ("reject", "not an MR image", lambda it: it.header.modality != "MR"),
    ("reject", "in colour", lambda it: it.header.samples_per_pixel != 1),
    ("reject", "mosaic: several slices in one image", lambda it: "MOSAIC" in it.types),
    ("localizer", "localizer", lambda it: "LOCALIZER" in it.types or it.says(_LOCALIZER)),
    ("localizer", "more than one plane", lambda it: it.plane == "mixed"),
    ("derived", "phase, real or imaginary part, no magnitude", lambda it: bool(it.header.component)),
    ("derived", "reformatted, projected, subtracted or fused", _is_derived),
    ("derived", "exponential ADC", _is_exponential),
    ("adc", "image type ADC", lambda it: "ADC" in it.types),
    ("adc", "real-world values are ADC", lambda it: it.header.quantity == ADC_CODE),
    ("adc", "named ADC", lambda it: it.says(_ADC) and not _is_signal(it)),
    ("hbv_calc", "calculated b-value", lambda it: _is_diffusion(it) and _is_calculated(it)),
    ("dwi", "image type or b-value of diffusion", _has_diffusion),
    ("dwi", "named as diffusion", lambda it: it.says(_DIFFUSION)),
    ("dce", "contrast agent", lambda it: it.header.contrast and not _is_t2_weighted(it)),
    ("dce", "repeated quickly", lambda it: it.header.time_points >= 3 and _is_quick(it)),
    ("dce", "named as dynamic", lambda it: it.says(_DYNAMIC)),
    ("other", "T1-weighted", lambda it: it.says(_T1)),
    ("other", "a map of relaxation times", lambda it: it.says(_MAP)),
    ("other", "fat-suppressed", lambda it: bool({"FAT", "WATER"} & it.types) or it.says(_FAT)),
    ("other", "single shot or steady state", lambda it: it.says(_SINGLE_SHOT)),
    ("other", "echo planar without a b-value", lambda it: it.says(_ECHO_PLANAR)),
    ("t2w", "named T2, echo time fits", lambda it: it.says(_T2) and _is_long(it.header.echo_time_ms, T2_ECHO_TIME_MS)),
    ("t2w", "named T2, echo time unknown: check", lambda it: it.says(_T2) and it.header.echo_time_ms is None),
    ("t2w", "echo and repetition time fit T2, no name says so: check", _is_t2_weighted),
)
