"""Everything that a hospital's files say of one run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prostafed.client.attack.own import FOLDER as ATTACKS
from prostafed.client.gate.approval_file import Approval, read_approval
from prostafed.client.gate.audit import FILE as AUDIT
from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.ledger import FILE as LEDGER
from prostafed.client.gate.ledger import read_ledger
from prostafed.client.gate.outbox import FILE as OUTBOX
from prostafed.client.site.site_file import Site, read_site_file
from prostafed.common.errors import ApprovalError, CheckpointError, ConfigurationError
from prostafed.common.privacy.attacks.finding import Findings, read_findings
from prostafed.common.shell.rotating import list_parts, read_rotating
from prostafed.common.study import RUN_NAME, Study, parse_study

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Chain:
    """A chained file of the site: its lines, None where there is no such file, and what is wrong with it."""

    name: str
    lines: tuple[Line, ...] | None
    wrong: str = ""

    def of(self, run: str) -> tuple[Line, ...]:
        """Return the lines about a run."""
        return tuple(line for line in self.lines or () if line.get("run") == run)


@dataclass(frozen=True)
class Sources:
    """What lies at a hospital of a run."""

    site_file: Path
    site: Site
    run: str
    study_hash: str  # "" where no file names it
    study: Study | None  # as it was approved
    approval: Approval | None
    approval_problem: str  # why the file of the approval is none
    audit: Chain
    outbox: Chain
    ledger: Chain
    attacks: Findings | None

    @property
    def folder(self) -> Path:
        """The folder of the site file."""
        return self.site_file.parent

    @property
    def approved_in(self) -> str:
        """The file of the approval, as the dossier names it."""
        return f"approvals/{self.study_hash[:12]}….json" if self.study_hash else ""

    @property
    def memory(self) -> Path:
        """The folder of what the site keeps of the run."""
        return self.site.memory / self.run


def read_sources(site_file: Path, run: str) -> Sources:
    """Return what the files of a site say of `run`; raises ConfigurationError where none of them knows it."""
    site_file, site = site_file.resolve(), read_site_file(site_file)
    folder = site_file.parent
    lines, wrong = read_audit(folder)
    audit = Chain(AUDIT, tuple(lines) if lines or wrong else None, wrong)
    outbox = _read_chain(OUTBOX, folder, lambda: read_rotating(folder / OUTBOX)[0])
    ledger = _read_chain(LEDGER, folder, lambda: read_ledger(folder))
    kept = bool(RUN_NAME.fullmatch(run)) and (site.memory / run).is_dir()
    known = [line for chain in (outbox, audit, ledger) for line in chain.of(run)]
    if not known and not kept:
        runs = sorted(
            {str(line["run"]) for chain in (outbox, audit, ledger) for line in chain.lines or () if "run" in line}
        )
        raise ConfigurationError(f"No file of this site knows the run {run!r}. Known are: {', '.join(runs) or 'none'}.")
    digest = next((str(line["study"]) for line in known if line.get("study")), "") or _find_in_memory(site.memory / run)
    approval, problem = _read_approval(site_file, digest)
    return Sources(
        site_file=site_file,
        site=site,
        run=run,
        study_hash=digest,
        study=parse_study(approval.study) if approval else None,
        approval=approval,
        approval_problem=problem,
        audit=audit,
        outbox=outbox,
        ledger=ledger,
        attacks=read_findings(folder / ATTACKS / f"{digest}.json") if digest else None,
    )


def count_files(folders: Sequence[Path]) -> tuple[int, int]:
    """Return how many files lie in and below the folders, and their bytes."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def _read_chain(name: str, folder: Path, read: Callable[[], Sequence[Line]]) -> Chain:
    if not list_parts(folder / name):
        return Chain(name, None)
    try:
        return Chain(name, tuple(read()))
    except CheckpointError as error:
        return Chain(name, (), str(error))


def _read_approval(site_file: Path, digest: str) -> tuple[Approval | None, str]:
    try:
        return (read_approval(site_file, digest) if digest else None), ""
    except ApprovalError:  # its text names a path
        return None, "none that holds: its file was changed, is damaged, or is another site's"
    except ConfigurationError:  # a site without a key, as a simulation's: nothing is approved there
        return None, ""


def _find_in_memory(folder: Path) -> str:
    """Return the hash of the study that the site keeps something of, "" where it keeps nothing."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("stage-*/*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get("prostafed", "{}"))
        except (SafetensorError, OSError, ValueError):
            continue
        if digest := told.get("study_hash"):
            return str(digest)
    return ""
