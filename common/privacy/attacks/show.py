"""What attacks found, as a table for a terminal and as a page."""

from pathlib import Path

from prostafed.common.privacy.attacks import ATTACKS
from prostafed.common.privacy.attacks.finding import Finding, Findings
from prostafed.common.shell.files import write_text

PAGE = "attacks.html"
CAUTION = (
    "These are the attacks that were tried, by one who holds the cases. That one fails proves nothing about others; "
    "only noise with an epsilon bounds all of them."
)


def show_findings(found: Findings) -> str:
    """Return a line per figure, with its interval and what guessing gives, below what each attack asks."""
    lines: list[str] = []
    for name, about in ATTACKS.items():
        figures = found.of(name)
        if not figures and name not in found.left_out:
            continue
        lines += [f"{about.title}. {about.asks}", f"  Who: {about.who}."]
        if name in found.left_out:
            lines.append(f"  Not carried out. {found.left_out[name]}")
        width = max((len(f"{each.site or 'all sites'}, {each.variant}") for each in figures), default=0)
        for each in figures:
            label = f"{each.site or 'all sites'}, {each.variant}"
            lines.append(f"  {label:{width}}  {each.measure}: {say_figure(each)} ({each.of}): {each.verdict}")
        if figures:
            lines.append(f"  {about.meaning}")
    return "\n".join([*lines, CAUTION])


def say_figure(finding: Finding) -> str:
    """Return "0.71 (0.60 to 0.80), chance 0.50"."""
    digits = 1 if finding.measure.endswith("dB") else 2
    value, low, high, chance = (
        f"{number:.{digits}f}" for number in (finding.value, finding.low, finding.high, finding.chance)
    )
    return f"{value} ({low} to {high}), chance {chance}"


def write_attacks_page(folder: Path, found: Findings) -> Path:
    """Write attacks.html into `folder` and return it."""
    from prostafed.common.pages.page import format_number, open_templates

    environment = open_templates(Path(__file__).parent)
    environment.filters["number"] = format_number
    template = environment.get_template("attacks.html.j2")
    write_text(folder / PAGE, template.render(found=found, attacks=ATTACKS, caution=CAUTION))
    return folder / PAGE
