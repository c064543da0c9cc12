"""What the site's commands show a person: bars on stderr, tables and sentences on stdout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prostafed.client.preflight.records import Remark

if TYPE_CHECKING:
    from prostafed.client.gate.outbox import Entry

STATUSES = ("ready", "warning", "refused")


@contextmanager
def showing(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, all) that moves a bar on stderr; where stderr is no terminal nothing is shown."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, count: bars.update(task, completed=done, total=count)


def list_findings(index: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the findings of an index: those of the site, then those of its studies."""
    return [*index["findings"], *(finding for study in index["studies"] for finding in study["findings"])]


def show_index(index: Mapping[str, Any], *, dry_run: bool) -> str:
    """Return what `index` prints: a line per finding, the gravest last, then how many studies are usable."""
    studies = index["studies"]
    counts = {status: sum(study["status"] == status for study in studies) for status in STATUSES}
    findings = list_findings(index)
    # The gravest stand last: that is where a terminal ends up.
    lines = [each["text"] for severity in "WSF" for each in findings if each["severity"] == severity]
    usable = counts["ready"] + counts["warning"]
    lines.append(
        f"{len(studies)} studies: {usable} usable ({counts['warning']} of them with warnings), "
        f"{counts['refused']} refused."
    )
    if counts["refused"]:
        lines.append("Which folder holds a refused study: prostafed-site find CASE.")
    if dry_run:
        lines.append("Nothing was written (--dry-run).")
    return "\n".join(lines)


def show_withdrawn(withdrawn: Sequence[Mapping[str, Any]]) -> str:
    """Return what `index` prints of patients who object since the last time: what was removed, what cannot be."""
    if not withdrawn:
        return ""
    lines = [f"{len(withdrawn)} {'patient objects' if len(withdrawn) == 1 else 'patients object'} since the last time:"]
    lines += ["their cases, predictions of them, and updates that have not left were removed."]
    for each in withdrawn:
        lines.append(f"  {each['patient']} {'contributed to' if each['contributed'] else 'is in no ledger'}")
        lines += [f"    {say_contribution(part)}" for part in each["contributed"]]
    lines += [
        "What networks have learnt from them cannot be unlearnt. A report of prostafed-site qc shows the images of"
    ]
    return "\n".join([*lines, "its day: write it anew.", ""])


def say_contribution(part: Mapping[str, Any]) -> str:
    """Return what a patient contributed to a stage of a run."""
    rounds = {name: ", ".join(map(str, part[name])) or "none" for name in ("rounds", "left", "evaluated")}
    return (
        f"study {part['study'][:12]}, run {part['run']}, stage {part['stage']}: trained on in rounds "
        f"{rounds['rounds']}; left: {rounds['left']}; evaluated in: {rounds['evaluated']}"
    )


def show_series(folder: Path, series: Sequence[Mapping[str, Any]]) -> str:
    """Return what `find` prints: a study's folder, and a line per series by its number on the scanner."""
    lines = [str(folder)]
    for each in series:
        number = "?" if each["number"] is None else each["number"]
        lines.append(f"  {each['series']}  series {number:>4}: {each['kind']}, {each['slices']} slices")
    return "\n".join(lines)


def show_results(results: Sequence[tuple[str, Remark]]) -> str:
    """Return what `check` prints: a line per result, with its fix below."""
    width = max(len(name) for name, _ in results)
    lines = []
    for name, result in results:
        lines.append(f"{'ok  ' if result.ok else 'FIX '} {name:{width}}  {result.text}")
        lines += [f"{'':5}{'':{width}}  -> {line}" for line in result.fix.splitlines()]
    findings = sum(not result.ok for _, result in results)
    lines.append("Ready." if not findings else f"{findings} {'thing' if findings == 1 else 'things'} to do.")
    return "\n".join(lines)


def show_approvals(waiting: Sequence[Mapping[str, Any]], approved: Sequence[Mapping[str, Any]]) -> str:
    """Return what `requests` prints: a line per study that waits, then one per study that was approved."""
    lines = ["Waiting for approval:" if waiting else "No study waits for approval."]
    for each in waiting:
        times = "once" if each["asked"] == 1 else f"{each['asked']} times"
        lines.append(f"  {each['name']}  {each['study'][:12]}  asked {times}, last at {each['last_asked'][:16]} UTC")
        lines.append(f"    by {each['coordinator']}. Look at it: prostafed-site approve {each['study'][:12]}")
    lines.append("Approvals:" if approved else "No study was approved.")
    for each in approved:
        state = each["problem"] or f"holds until {each['until']}, {each['used']} of {each['rounds']} rounds are used"
        lines.append(f"  {each['name'] or '?'}  {each['study'][:12]}  {state}")
    return "\n".join(lines)


def show_audit(lines: Sequence[Mapping[str, Any]], count: int, wrong: str) -> str:
    """Return what `audit` prints: a line per event, then whether the chain holds."""
    shown = []
    for each in lines:
        line = {**each, "study": str(each["study"])[:12]} if "study" in each else each
        facts = (f"{name}={line[name]}" for name in sorted(line) if name not in ("time", "event", "number", "previous"))
        text = (
            f"{line.get('number', '?')}  {str(line.get('time', '?'))[:19]}  {line.get('event', '?')}  {' '.join(facts)}"
        )
        shown.append("".join(letter if letter.isprintable() else "?" for letter in text))
    end = wrong or f"{count} {'line' if count == 1 else 'lines'}, none changed or taken out."
    return "\n".join([*shown, end])


def show_outbox(entries: "Sequence[Entry]", count: int, waiting: Sequence[int]) -> str:
    """Return what `outbox` prints: a line per answer, then what waits for a person."""
    shown = []
    for entry in entries:
        line = entry.line
        place = f"{line.get('kind', '')} {line['run']} {line['stage']}.{line['round']}"
        size = ""
        if "bytes" in line:
            groups = ", ".join(line["groups"]) or "no tensors"
            size = (
                f"{line['bytes'] / 1e6:,.2f} MB, {line['tensors']} tensors ({groups}), {len(line['metrics'])} metrics"
            )
            size += f"  sha256 {line['sha256'][:12]}"
        by = f" by {entry.by}" if entry.by else ""
        by += f": {entry.reason}" if entry.reason else ""
        shown.append(f"{entry.number}  {str(line['time'])[:19]}  {entry.state}{by}  {place}  {size}".rstrip())
    end = f"{count} {'answer' if count == 1 else 'answers'}. "
    names = ", ".join(map(str, waiting))
    end += (
        f"Waiting for you: {names}. prostafed-site outbox show N, release N, decline N." if waiting else "None waits."
    )
    return "\n".join([*shown, end])


def show_content(content: Mapping[str, Any]) -> str:
    """Return what `outbox show` prints: a line per tensor and one per metric."""
    width = max((len(each["name"]) for each in content["content"]), default=0)
    lines = [f"{content['state']}: {content['run']}, stage {content['stage']}, round {content['round']}"]
    lines += [f"sha256 {content['sha256']}, {content['bytes']:,} bytes, trained on {content['cases']} cases", ""]
    for each in content["content"]:
        shape = " x ".join(map(str, each["shape"])) or "a number"
        lines.append(f"  {each['name']:{width}}  {each['dtype']:8}  norm {each['norm']:<10.4g}  {shape}")
    lines += ["", *(f"  {name} = {value:g}" for name, value in sorted(content["figures"].items()))]
    return "\n".join(lines)
