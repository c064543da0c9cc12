"""What a hospital holds back, keeps and can stop, in its dossier."""

from collections.abc import Iterator
from pathlib import Path

from prostafed.client.dossier.sources import Chain, Sources, count_files
from prostafed.client.gate.halt import is_halted
from prostafed.client.gate.ledger import BEGINS, list_contributions
from prostafed.client.gate.ledger import FILE as LEDGER
from prostafed.client.gate.opt_out import FILE as OPTED_OUT
from prostafed.client.gate.opt_out import read_opted_out
from prostafed.client.gate.outbox import FILE as OUTBOX
from prostafed.client.manifest import read_manifest
from prostafed.common.dossier.record import Fact
from prostafed.common.dossier.words import say_bytes, say_withheld
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import open_case_folder

APPROVAL_TEST, CHAIN_TEST = "tests/client/gate/test_approval.py", "tests/common/shell/test_chained_file.py"
OPT_OUT_TEST, HALT_TEST = "tests/client/gate/test_opt_out.py", "tests/client/gate/test_halt.py"
LEDGER_TEST = "tests/client/gate/test_ledger.py"
TELLING, TOLD = "tests/client/gate/test_telling.py", "tests/client/gate/test_told.py"


def answer_cells(sources: Sources) -> Iterator[Fact]:
    """Yield what is withheld of few patients."""
    minimum = sources.site.minimum_cell
    limit = "none: numbers about single patients may leave" if minimum < 2 else f"{minimum} patients"
    yield Fact("cells", "Smallest group told of, as the site file stands now", limit, "the site file", TELLING)
    left = [line for line in sources.outbox.of(sources.run) if line.get("event") == "left"]
    said = say_withheld(str(name) for line in left for name in line.get("metrics", ()))
    known = sources.outbox.lines is not None
    yield Fact("cells", "Withheld in this run", said if known else None, OUTBOX if known else "", TELLING)
    cohort = sources.site.privacy.minimum_cohort
    yield Fact("cells", "Fewest training patients, as the site file stands now", str(cohort), "the site file")
    once = "once per study and stage, about one model"
    yield Fact("cells", "Answers about test patients", once, "the program", TOLD)
    shares = "yes, in classes" if sources.site.share_cohort else "no"
    yield Fact("cells", "Counts of patients are told, as the site file stands now", shares, "the site file", TELLING)


def answer_patients(sources: Sources) -> Iterator[Fact]:
    """Yield whose data was used, and how many object."""
    try:
        records = open_case_folder(sources.site.cases).records
        patients = len({record.patient_id for record in records})
        said: str | None = f"{len(records)} cases of {patients} patients now"
    except DataError:
        said = None
    yield Fact("patients", "Indexed", said, "the folder of cases" if said else "")
    trained = [line for line in sources.ledger.of(sources.run) if line.get("event") == BEGINS]
    most = max((int(line["patients"]) for line in trained), default=None)
    known = None if most is None else f"{most} patients at most in a round"
    yield Fact("patients", "Trained on in this run", known, LEDGER if known else "")
    try:
        rows = read_manifest(sources.site.manifest).studies
        objected: str | None = f"{sum(row.opt_out == 1 for row in rows)} studies"
    except DataError:
        objected = None
    source = "the manifest" if objected is not None else ""
    yield Fact(
        "patients",
        "Studies of who objects, by the manifest",
        objected,
        source,
        OPT_OUT_TEST,
    )
    objecting = _count_objecting(sources.site.memory)
    yield Fact(
        "patients", "Patients who object, kept by the site", objecting, f"memory/{OPTED_OUT}" if objecting else ""
    )
    before = _say_contributed(sources) if objecting else None
    yield Fact("patients", "What they contributed to before", before, LEDGER if before else "", LEDGER_TEST)


def _say_contributed(sources: Sources) -> str | None:
    """Return how much those who object contributed to before; who they are and to which rounds, the site's own command
    says.
    """
    if sources.ledger.lines is None or sources.ledger.wrong:
        return None
    parts = [part for each in read_opted_out(sources.site.memory) for part in list_contributions(sources.folder, each)]
    studies, trained = {part["study"] for part in parts}, [part for part in parts if part["rounds"]]
    of_this = sum(part["run"] == sources.run for part in trained)
    many = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    return f"{many}; stages of this run trained on them: {of_this}. prostafed-site ledger --patient lists them"


def _count_objecting(memory: Path) -> str | None:
    """Return how many patients the site keeps as objecting, None where it keeps no such file that can be read."""
    try:
        return str(len(read_opted_out(memory))) if (memory / OPTED_OUT).exists() else None
    except DataError:
        return None


def answer_retention(sources: Sources) -> Iterator[Fact]:
    """Yield what lies where still."""
    files, size = count_files([sources.memory])
    yield Fact("retention", "Memory of the run", f"{files} files, {say_bytes(size)}", f"memory/{sources.run}")
    told = list((sources.site.memory / "told").glob(f"{sources.study_hash}-*.json")) if sources.study_hash else []
    yield Fact("retention", "Kept answers about test patients", f"{len(told)} files", "memory/told", TOLD)
    yield Fact("retention", "At the coordinator", None, "")


def answer_records(sources: Sources) -> Iterator[Fact]:
    """Yield whether the chains of the site's records hold."""
    for label, chain in (("Audit", sources.audit), ("Outbox", sources.outbox), ("Ledger", sources.ledger)):
        yield Fact("records", label, _say_chain(chain), chain.name if chain.lines is not None else "", CHAIN_TEST)


def answer_stopping(sources: Sources) -> Iterator[Fact]:
    """Yield how the hospital stops it."""
    how = "prostafed-site halt stops all at once; withdraw ends the approval from the next request on"
    yield Fact("stopping", "By withdrawing", how, "the program", APPROVAL_TEST)
    halted = is_halted(sources.folder)
    yield Fact("stopping", "Halted now", "yes: nothing leaves" if halted else "no", "the file `halted`", HALT_TEST)


def _say_chain(chain: Chain) -> str | None:
    if chain.wrong:
        return "broken: a line was changed or taken out, or cannot be read"
    if chain.lines is None:
        return None
    last = chain.lines[-1] if chain.lines else {}
    return f"{len(chain.lines)} lines, none changed or taken out; the last is number {last.get('number', 0)}"
