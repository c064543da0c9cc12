"""What both sides' dossiers say alike: stages, privacy of a study, attacks, metrics, bytes."""

from collections import Counter
from collections.abc import Iterable, Iterator

from prostafed.common.dossier.record import Fact
from prostafed.common.metrics.summary import WITHHELD
from prostafed.common.privacy.attacks.finding import Findings
from prostafed.common.privacy.attacks.show import say_figure
from prostafed.common.study import Finetune, Privacy, Study

ATTACK_TESTS = {
    "membership": "tests/common/privacy/attacks/test_membership.py",
    "differencing": "tests/common/privacy/attacks/test_answers.py",
    "histograms": "tests/common/privacy/attacks/test_answers.py",
    "inversion": "tests/common/privacy/attacks/test_inversion.py",
    "labels": "tests/common/privacy/attacks/test_inversion.py",
    "origin": "tests/common/privacy/attacks/test_origin.py",
}


def say_stages(study: Study) -> Iterator[tuple[str, str]]:
    """Yield (label, what it does) of each stage."""
    for number, stage in enumerate(study.stage, start=1):
        learns = stage.task if isinstance(stage, Finetune) else stage.method
        shares = ", ".join(stage.share) or "nothing"
        yield f"Stage {number}", f"{stage.kind}, {learns}; {stage.rounds} rounds; shares {shares}"


def say_privacy(privacy: Privacy) -> str:
    """Return what noise a study asks for."""
    if privacy.unit == "none":
        return "no noise: nothing bounds what the weights tell"
    measure = f"epsilon {privacy.epsilon:g} at most" if privacy.epsilon is not None else f"noise {privacy.noise:g}"
    whose = {"patient": "each patient", "site": "all that a site has"}[privacy.unit]
    return f"noise that hides {whose}: {measure}, delta {privacy.delta:g}, clip {privacy.clip:g}"


def say_masks(privacy: Privacy) -> str:
    """Return whether a study asks for masks."""
    if privacy.secure_aggregation:
        return "masks on updates: the coordinator learns their sum alone"
    return "no masks: the coordinator sees each hospital's update"


def say_controls(privacy: Privacy) -> str:
    """Return both in one sentence part, as reports have it."""
    if privacy.unit == "none" and not privacy.secure_aggregation:
        return "no differential privacy and no secure aggregation: nothing bounds what updates and weights tell"
    return f"{say_privacy(privacy)}; {say_masks(privacy)}"


def say_attacks(found: Findings | None, source: str) -> Iterator[Fact]:
    """Yield a fact per figure that compares with chance best: AUCs, correlations, shares; why an attack is missing; one
    "not known" where nobody has attacked.
    """
    if found is None:
        yield Fact("attacks", "Attacks on this model", None, "")
        return
    left_out = {"true positives at 10 % false ones", "PSNR in dB"}
    for each in sorted(found.findings, key=lambda figure: (figure.attack != "membership", bool(figure.site))):
        if each.measure in left_out:
            continue
        label = f"{each.attack.capitalize()}, {each.site or 'all sites'}, {each.variant}"
        said = f"{each.measure} {say_figure(each)}: {each.verdict} ({each.of})"
        yield Fact("attacks", label, said, source, ATTACK_TESTS[each.attack])
    for attack in found.left_out:
        yield Fact("attacks", attack.capitalize(), None, source)


def say_metrics(names: Iterable[str]) -> str:
    """Return the names of metrics in a few words: by split, without the ends of intervals and bins of histograms."""
    splits: dict[str, set[str]] = {}
    for name in names:
        split, *rest = name.split("/") if "/" in name else ("train", name)
        rest = rest[:-1] if len(rest) > 1 and rest[-1].isdigit() else rest
        splits.setdefault(split, set()).add("/".join(rest).removesuffix("_low").removesuffix("_high"))
    said = [f"{split}: {', '.join(sorted(found))}" for split, found in sorted(splits.items())]
    return "; ".join(said) or "none"


def say_withheld(names: Iterable[str]) -> str:
    """Return which of the names of metrics say that something was withheld, and how often; "nothing" for none."""
    counts = Counter(name for name in names if WITHHELD in name.replace(": ", "/").split("/"))
    return ", ".join(f"{name} {count} times" for name, count in sorted(counts.items())) or "nothing"


def say_bytes(size: int) -> str:
    """Return "3.2 MB"."""
    if size < 1000:
        return f"{size} bytes"
    power = min(3, (len(str(size)) - 1) // 3)
    return f"{size / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
