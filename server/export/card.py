"""The model card (Mitchell et al. 2019) of a run: what a hospital must know before it uses the model. What is not known
is said to be not known.
"""

from collections.abc import Sequence
from typing import Any

from prostafed.common.bundle.monai_files import INTENDED_USE, SEQUENCES
from prostafed.common.bundle.record import Thresholds
from prostafed.common.metrics.small_cells import MINIMUM
from prostafed.common.study import Pretrain, Study
from prostafed.common.tasks import TASKS
from prostafed.server.report.notices import Notice
from prostafed.server.report.results import Result, list_sites
from prostafed.server.report.run_folder import RunFolder
from prostafed.server.report.vocabulary import SOURCES, describe_scanner, metric_of


def write_card(
    run: RunFolder,
    study: Study,
    stage: int,
    results: Sequence[Result],
    notices: Sequence[Notice],
    thresholds: Thresholds,
) -> str:
    """Return the model card of `stage` (from 1) of a run, Markdown."""
    task = str(run.stages[stage - 1]["task"])
    parts = [
        f"# Model card: {study.name}, {task}",
        "".join(f"> **{notice.title}.** {notice.text}\n>\n" for notice in notices).rstrip("\n>"),
        "## Intended use",
        f"{INTENDED_USE}\n\nTask: {task}, learnt from {TASKS[task].annotation}. For axial biparametric prostate MRI of "
        "adults before biopsy or treatment, as the sites' studies were; nothing else was shown to it.",
        "## Sites and cases",
        _table(("site", "images", "training cases", "scanner"), _list_sites(run, stage)),
        "A site counts cases, not patients. Scanners of a real federation are known to the sites alone.",
        "## Input",
        "\n".join(_describe_input(study)),
        "## Output",
        _describe_output(task, thresholds),
        "## How well it did",
        _describe_results(results, stage),
        "## Privacy",
        "\n".join(_describe_privacy(run, study)),
        "## Limits",
        "\n".join(_list_limits(task)),
        "## Where it comes from",
        _table(("what", "value"), _describe_origin(run, study)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _list_sites(run: RunFolder, stage: int) -> list[tuple[str, ...]]:
    named = {site.name: site for site in run.sites}
    cases: dict[str, int] = {}
    for line in run.rounds:
        if line.arm == "federated" and line.stage == stage:
            cases |= line.cases
    rows: list[tuple[str, ...]] = []
    for name in list_sites(run):
        site = named.get(name)
        images = SOURCES.get(site.source, site.source) if site else "indexed by the site"
        if name in run.generated_sites:
            images = SOURCES["phantom"]
        scanner = describe_scanner(site.scanner) if site and site.scanner else "not known"
        rows.append((name, images, _say_count(cases.get(name)), scanner))
    return rows


def _describe_input(study: Study) -> list[str]:
    data = study.data
    lines = [
        f"- {name}: {SEQUENCES[name]}{' (may be missing)' if name in data.allow_missing else ''}"
        for name in data.sequences
    ]
    spacing, size = (" x ".join(f"{each:g}" for each in values) for values in (data.spacing_mm, data.size))
    lines.append(f"- one grid on the axes of the T2W: {size} voxels of {spacing} mm (z, y, x), at the T2W's centre")
    lines.append("- each sequence clipped to its 0.5 and 99.5 percentiles, mean 0, deviation 1")
    return lines


def _describe_output(task: str, thresholds: Thresholds) -> str:
    if task == "lesion":
        return (
            "A map of scores in [0, 1] for csPCa (ISUP >= 2); at most "
            f"{thresholds.max_candidates} candidates larger than {thresholds.min_candidate_mm3:g} mm3, shown from a "
            f"confidence of {thresholds.min_confidence:g} on. That threshold was set by hand: no operating point has "
            "been validated. The case's score is its best candidate's confidence, 0 without one."
        )
    if task == "anatomy":
        return "Peripheral and transition zone of the prostate, as masks. Says nothing of cancer."
    if task == "pirads":
        return "The share of readers who would give PI-RADS >= 3, >= 4 and >= 5. It was not learnt from histology."
    return "One score in [0, 1] for csPCa (ISUP >= 2) in the case."


def _describe_results(results: Sequence[Result], stage: int) -> str:
    rows = [
        (
            metric_of(result.metric).label,
            result.site if result.scope == "site" else "mean over sites",
            f"{result.value:.3f}",
            "not known" if result.low is None or result.high is None else f"{result.low:.3f} to {result.high:.3f}",
            _say_count(result.cases),
        )
        for result in results
        if (result.stage, result.arm) == (stage, "federated") and result.scope != "worst" and result.value is not None
    ]
    if not rows:
        return "Not tested: the run holds no result on test patients."
    explained = sorted({f"- {metric_of(each.metric).label}: {metric_of(each.metric).meaning}" for each in results})
    return (
        f"{_table(('metric', 'site', 'value', '95 % interval', 'test cases'), rows)}\n\n"
        "On the sites' own test patients, who were not trained on; intervals are percentiles of a bootstrap over "
        "patients. No patients of other hospitals were tested.\n\n" + "\n".join(explained)
    )


def _describe_privacy(run: RunFolder, study: Study) -> list[str]:
    lines = ["- Images, labels and reports stayed at the sites; weights, counts and metrics left them."]
    for number, section in enumerate(study.stage, start=1):
        name = section.method if isinstance(section, Pretrain) else section.task
        lines.append(f"- Stage {number} ({section.kind}, {name}) shared: {', '.join(section.share) or 'nothing'}.")
    settings: Any = run.study.get("privacy")
    if settings:
        lines.append(f"- The study's privacy settings: {settings}. The run's ledger says what was spent.")
    else:
        lines.append(
            "- No differential privacy and no secure aggregation: the weights of a model may tell something of the "
            "cases it was trained on (membership inference). Pass this bundle on only to those the sites agreed to."
        )
    return lines


def _list_limits(task: str) -> list[str]:
    limits = [
        "- Not tested prospectively, not tested by readers, not approved by any authority.",
        "- Scanners, protocols and populations other than the sites' were not tested; expect worse there.",
        "- Scores are not probabilities unless a calibration error is given above, and then for those sites alone.",
        "- Not for studies after prostatectomy, radiotherapy or focal therapy, with a hip prosthesis in the field, or "
        "with an endorectal coil, unless the sites' studies held such.",
        "- The box is laid at the centre of the T2W: a prostate far off the middle of the scan may be cut.",
    ]
    if task == "lesion":
        limits.append("- Lesions of fewer than a few voxels, and cancer that MRI does not show, are missed.")
    return limits


def _describe_origin(run: RunFolder, study: Study) -> list[tuple[str, ...]]:
    record = run.record
    rows = [
        ("study", study.name),
        ("study hash", study.hash()),
        ("started, finished", f"{record.started or 'not known'}, {record.finished or 'not known'}"),
        ("commit", record.commit or "an installed release"),
        ("data fingerprint", record.data_fingerprint or "not known to the coordinator"),
    ]
    return [*rows, *((name, each) for name, each in sorted(record.versions.items()))]


def _say_count(count: int | None) -> str:
    """Return a count of cases; few are not told, as in every table that leaves."""
    if count is None:
        return "not known"
    return f"fewer than {MINIMUM}" if 0 < count < MINIMUM else str(count)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
