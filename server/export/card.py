"""The model card (Mitchell et al. 2019) of a run: what a hospital must know before it uses the model. What is not known
is said to be not known.
"""

from collections.abc import Sequence

from prostafed.common.bundle import card
from prostafed.common.bundle.record import Thresholds
from prostafed.common.dossier.words import say_controls
from prostafed.common.study import Pretrain, Study
from prostafed.server.records.read import RunFolder
from prostafed.server.report.results import Result, list_sites
from prostafed.server.report.shortcomings import Notice
from prostafed.server.report.vocabulary import describe_scanner, metric_of


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
    sections = {
        "": "".join(f"> **{notice.title}.** {notice.text}\n>\n" for notice in notices).rstrip("\n>"),
        "Intended use": card.describe_use(task),
        "Sites and cases": card.tabulate(("site", "images", "training cases", "scanner"), _list_sites(run, stage))
        + "\n\nA site counts cases, not patients. Scanners of a real federation are known to the sites alone.",
        "Input": card.describe_input(study),
        "Output": card.describe_output(task, thresholds),
        "How well it did": _describe_results(results, stage),
        "Privacy": "\n".join(_describe_privacy(run, study)),
        "Limits": card.list_limits(task),
        "Where it comes from": card.tabulate(("what", "value"), _describe_origin(run, study)),
    }
    return card.write_sections(f"{study.name}, {task}", sections)


def _list_sites(run: RunFolder, stage: int) -> list[tuple[str, ...]]:
    named = {site.name: site for site in run.sites}
    cases: dict[str, int] = {}
    for line in run.rounds:
        if line.arm == "federated" and line.stage == stage:
            cases |= line.cases
    rows: list[tuple[str, ...]] = []
    for name in list_sites(run):
        site = named.get(name)
        images = site.images if site else "indexed by the site"
        if name in run.generated_sites:
            images = "generated images"
        scanner = describe_scanner(site.scanner) if site and site.scanner else "not known"
        rows.append((name, images, card.say_count(cases.get(name)), scanner))
    return rows


def _describe_results(results: Sequence[Result], stage: int) -> str:
    rows = [
        (
            metric_of(result.metric).title,
            result.site if result.scope == "site" else "mean over sites",
            f"withheld: {result.withheld}" if result.value is None else f"{result.value:.3f}",
            "not known" if result.low is None or result.high is None else f"{result.low:.3f} to {result.high:.3f}",
            card.say_count(result.cases),
        )
        for result in results
        if (result.stage, result.arm) == (stage, "federated") and result.scope != "worst"
        if result.value is not None or result.withheld
    ]
    if not rows:
        return "No result: the run was not tested, or on too few test patients."
    explained = sorted({f"- {metric_of(each.metric).title}: {metric_of(each.metric).meaning}" for each in results})
    return (
        f"{card.tabulate(('metric', 'site', 'value', '95 % interval', 'test cases'), rows)}\n\n"
        "On the sites' own test patients, who were not trained on; intervals are percentiles of a bootstrap over "
        "patients. No patients of other hospitals were tested.\n\n" + "\n".join(explained)
    )


def _describe_privacy(run: RunFolder, study: Study) -> list[str]:
    lines = ["- Images, labels and reports stayed at the sites; weights, counts and metrics left them."]
    for number, section in enumerate(study.stage, start=1):
        name = section.method if isinstance(section, Pretrain) else section.task
        lines.append(f"- Stage {number} ({section.kind}, {name}) shared: {', '.join(section.share) or 'nothing'}.")
    controls = say_controls(study.privacy)
    lines.append(f"- {controls[0].upper()}{controls[1:]}.")
    if study.privacy.unit == "none":
        lines.append(
            "- The weights of a model may tell something of the cases it was trained on (membership inference). Pass "
            "this bundle on only to those the sites agreed to."
        )
    else:
        lines.append("- What noise cost the patients of each site stands in that site's own ledger and dossier.")
    return lines


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
