"""What every model card says, whoever exports: use, input, output, limits."""

from collections.abc import Mapping, Sequence

from prostafed.common.bundle.monai_files import INTENDED_USE, SEQUENCES
from prostafed.common.bundle.record import Thresholds
from prostafed.common.metrics.small_cells import MINIMUM
from prostafed.common.study import Study
from prostafed.common.tasks import TASKS, build_task


def write_sections(title: str, sections: Mapping[str, str]) -> str:
    """Return a model card, Markdown: its title, then each section under its heading, the one named "" without."""
    parts = [f"# Model card: {title}", *(f"## {name}\n\n{text}" if name else text for name, text in sections.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def describe_use(task: str) -> str:
    """Return what the model is for."""
    return (
        f"{INTENDED_USE}\n\nTask: {task}, learnt from {TASKS[task].annotation}. For axial biparametric MRI of the "
        "prostate. Which patients the sites' studies were of is not recorded here: ask the sites."
    )


def describe_input(study: Study) -> str:
    """Return what the network is shown, a line each."""
    data = study.data
    lines = [
        f"- {name}: {SEQUENCES[name]}{' (may be missing)' if name in data.allow_missing else ''}"
        for name in data.sequences
    ]
    spacing, size = (" x ".join(f"{each:g}" for each in values) for values in (data.spacing_mm, data.size))
    lines.append(f"- one grid on the axes of the T2W: {size} voxels of {spacing} mm (z, y, x), at the T2W's centre")
    lines.append("- each sequence clipped to its 0.5 and 99.5 percentiles, mean 0, deviation 1")
    return "\n".join(lines)


def describe_output(task: str, thresholds: Thresholds) -> str:
    """Return what the network says, and how a map becomes candidates."""
    built = build_task(task)
    if built.kind != "heat map":
        return built.says
    return (
        f"{built.says} At most {thresholds.max_candidates} candidates larger than {thresholds.min_candidate_mm3:g} "
        f"mm3, shown from a confidence of {thresholds.min_confidence:g} on. That threshold was set by hand: no "
        "operating point has been validated. The case's score is its best candidate's confidence, 0 without one."
    )


def list_limits(task: str) -> str:
    """Return where not to trust it, a line each."""
    built = build_task(task)
    scores = "Scores are not probabilities unless a calibration error is given above, and then for those sites alone."
    limits = (
        "Not tested prospectively, not tested by readers, not approved by any authority.",
        "Scanners, protocols and populations other than the sites' were not tested; expect worse there.",
        *([scores] if built.judges_cspca else []),
        "Not for studies after prostatectomy, radiotherapy or focal therapy, with a hip prosthesis in the field, or "
        "with an endorectal coil, unless the sites' studies held such.",
        "The box is laid at the centre of the T2W: a prostate far off the middle of the scan may be cut.",
        *built.limits,
    )
    return "\n".join(f"- {limit}" for limit in limits)


def say_count(count: int | None) -> str:
    """Return a count of cases; few are not told, as in every table that leaves."""
    if count is None:
        return "not known"
    return f"fewer than {MINIMUM}" if 0 < count < MINIMUM else str(count)


def tabulate(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
