"""The dossier as a page to file, and as JSON."""

from pathlib import Path

from prostafed.common.dossier.record import Dossier
from prostafed.common.pages.page import open_templates
from prostafed.common.shell.files import make_folder, write_json, write_text

NO_ADVICE = (
    "This page lists figures of one run, each with the file it comes from. It is no legal advice: a lawyer has to "
    "confirm what the named sources ask for. What no file shows is said to be not known."
)


def write_dossier(folder: Path, stem: str, dossier: Dossier) -> Path:
    """Write STEM.html and STEM.json into `folder`; return the page."""
    page = make_folder(folder) / f"{stem}.html"
    template = open_templates(Path(__file__).parent).get_template("dossier.html.j2")
    write_text(page, template.render(dossier=dossier, no_advice=NO_ADVICE))
    write_json(page.with_suffix(".json"), dossier.as_json())
    return page


def show_dossier(dossier: Dossier) -> str:
    """Return the dossier as text for a terminal."""
    lines = [f"{dossier.title}: {dossier.whose}, run {dossier.run}"]
    for number, (question, facts) in enumerate(dossier.answers(), start=1):
        lines.append(f"\n{number}. {question.text}")
        lines += [f"   {fact.label}: {fact.said}" for fact in facts]
    return "\n".join(lines)
