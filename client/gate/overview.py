"""What waits for approval and what was approved at a site: told in a few words, found by hash or name."""

from collections.abc import Mapping
from pathlib import Path

from prostafed.client.gate.approval import count_used, find_end
from prostafed.client.gate.approval_file import Approval, list_approved, read_approval
from prostafed.client.gate.waiting import list_waiting
from prostafed.common.errors import ApprovalError, ConfigurationError
from prostafed.common.study import Study, parse_study, read_study

SHORTEST = 6  # digits of a hash that name a study


def describe_approved(site_file: Path) -> list[dict[str, str | int]]:
    """Return each approval in a few words: "study" (its hash), "name", "until", "rounds", "used", "by", and "problem",
    why it holds no longer, "" where it does.
    """
    described: list[dict[str, str | int]] = []
    for digest, found in list_approved(site_file).items():
        line: dict[str, str | int] = {"study": digest, "name": "", "until": "", "rounds": 0, "used": 0, "by": ""}
        try:
            if isinstance(found, str):
                raise ApprovalError(found)
            line |= {"name": found.name, "until": found.until, "rounds": found.rounds, "by": found.by}
            line["used"] = count_used(site_file, found)
            line["problem"] = find_end(found, int(line["used"]))
        except ApprovalError as error:
            line["problem"] = str(error)
        described.append(line)
    return described


def find_study(site_file: Path, named: str) -> Study:
    """Return the study in a file, or the one with a hash or name that waits or was approved at the site."""
    if named.endswith(".toml") or Path(named).is_file():
        return read_study(Path(named))
    found = {
        digest: parse_study(each.study)
        for digest, each in list_approved(site_file).items()
        if isinstance(each, Approval)
    }
    found |= {digest: each.study for digest, each in list_waiting(site_file.resolve().parent).items()}
    return found[find_hash(named, {digest: study.name for digest, study in found.items()})]


def find_peers(site_file: Path, study: Study) -> dict[str, str]:
    """Return who masks a study with this site, name -> public key: as the coordinator told last. {} where nothing is
    masked. Raises ConfigurationError where the coordinator has not told yet.
    """
    if not study.privacy.secure_aggregation:
        return {}
    waiting = list_waiting(site_file.resolve().parent).get(study.hash())
    if waiting and waiting.peers:
        return dict(waiting.peers)
    before = read_approval(site_file, study.hash())
    if before and before.peers:
        return dict(before.peers)
    raise ConfigurationError(
        f"The study {study.name} masks updates, and you approve with whom. The coordinator tells the hospitals and "
        "their keys once it asks: approve the study when prostafed-site requests lists it as waiting."
    )


def find_hash(named: str, names: Mapping[str, str]) -> str:
    """Return the one hash among `names` (hash -> name) that is called so."""
    matching = [digest for digest in names if len(named) >= SHORTEST and digest.startswith(named)]
    matching = matching or [digest for digest, name in names.items() if name == named]
    if len(matching) != 1:
        several = f"{len(matching)} studies are" if matching else "no study here is"
        raise ConfigurationError(
            f"Expected a study file, or a hash or a name that stands for one study; {several} called {named!r}. "
            "prostafed-site requests lists hashes and names."
        )
    return matching[0]
