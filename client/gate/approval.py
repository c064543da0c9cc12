"""Approval: a study is answered only where a person of the hospital has approved it, until a day, for so many rounds.

All that is checked lies at the site: nothing that a coordinator sends can switch anything on. Simulations need no
approval: their sites do not come through here. approvals/HASH.used.json holds the rounds that were trained, and the
models that were evaluated.
"""

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prostafed.client.gate.approval_file import FOLDER, Approval, read_approval, read_server
from prostafed.client.gate.audit import record
from prostafed.client.gate.waiting import file_request, read_peers
from prostafed.common.errors import ApprovalError, ApprovalOverError, ConfigurationError, InitialError
from prostafed.common.shell.files import holding, write_json
from prostafed.common.study import Study

EVALUATIONS_A_ROUND = 2  # that an approval is good for: who asks about ever other models learns more of the patients
_EVALUATED = "evaluate:"  # how one begins in the list of what was used

if TYPE_CHECKING:
    from prostafed.common.exchange.messages import Request
    from prostafed.common.tensors import Tensors


def require_approval(site_file: Path, study: Study, request: "Request") -> Approval:
    """Return the approval by which the site answers what `request` asks for of `study`; a round of training counts as
    used, and so does an evaluation, apart.

    Raises ApprovalError where nobody has, and files the study as waiting; ApprovalOverError where the approval has
    ended, was withdrawn, or its rounds are used up; InitialError where the first round starts from other weights.
    """
    folder, coordinator = site_file.resolve().parent, read_server(site_file).address
    try:
        approval = _read(site_file, study.hash())
        if approval is None:
            raise ApprovalError(
                f"The study {study.name} waits for approval: prostafed-site approve {study.hash()[:12]}."
            )
        _require_time(approval)
        if request.action == "train":
            _require_initial(approval, request)
        if request.action in ("train", "evaluate"):
            _use(folder, approval, request)
        named = read_peers(request)
        if named and named != approval.peers and study.privacy.secure_aggregation:
            file_request(folder, study, coordinator, named)  # somebody has come: a person decides whether to mask with
    except ApprovalError:
        file_request(folder, study, coordinator, read_peers(request))
        raise
    return approval


def count_used(site_file: Path, approval: Approval) -> int:
    """Return how many rounds were trained under an approval."""
    return _count_rounds(_read_used(site_file.resolve().parent / FOLDER, approval))


def find_end(approval: Approval, used: int) -> str:
    """Return why an approval holds no longer after `used` rounds, as the end of a sentence; "" where it does."""
    if approval.withdrawn_at:
        return f"was withdrawn at {approval.withdrawn_at[:16]} UTC"
    if datetime.now(UTC).date() > date.fromisoformat(approval.until):
        return f"ended on {approval.until}"
    return f"is used up: {used} of {approval.rounds} rounds" if used >= approval.rounds else ""


def _read(site_file: Path, study_hash: str) -> Approval | None:
    """Return the approval of a study; one that was changed leaves a line in the audit."""
    try:
        return read_approval(site_file, study_hash)
    except ApprovalError as error:
        facts = {"study": study_hash, "code": error.code, "reason": str(error)}
        record(site_file.resolve().parent, "refused", **facts)
        raise


def _require_time(approval: Approval) -> None:
    if end := find_end(approval, used=-1):
        raise _over(approval, end)


def _require_initial(approval: Approval, request: "Request") -> None:
    """Raise InitialError where the first round starts from other weights than those of the file that was shown."""
    if not approval.initial_digest or (request.stage, request.round) != (1, 1):
        return
    if digest_initial(request.tensors, approval.initial_left_out) != approval.initial_digest:
        raise InitialError(
            f"The weights that the coordinator sent to start the study {approval.name} from are not those of the file "
            "that the study names. Nothing was trained; tell the coordinator."
        )


def digest_initial(tensors: "Tensors", left_out: tuple[str, ...] = ()) -> str:
    """Return the hash of the encoder among `tensors`, without those `left_out`."""
    from prostafed.common.tensors import hash_tensors, select_groups

    encoder = select_groups(tensors, ["encoder"])
    return hash_tensors({name: array for name, array in encoder.items() if name not in left_out})


def read_initial(study: Study, path: Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the hash of the weights that a study starts from, read from `path`, and the encoder's tensors that they
    lack; ("", ()) for random ones. Raises ConfigurationError where the file is missing or another one.
    """
    from prostafed.common.study.network import build_stage_network
    from prostafed.common.study.weights import load_initial
    from prostafed.common.tensors import read_tensors, select_groups

    if study.initial.weights != "random" and path is None:
        raise ConfigurationError(
            f"The study starts from a file of weights ({study.initial.weights}) with the SHA-256 "
            f"{study.initial.sha256}. Ask the coordinator for it, and name it with --initial FILE."
        )
    tensors = load_initial(study, path)
    if not tensors:
        return "", ()
    encoder = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    return digest_initial(tensors), tuple(sorted(set(encoder) - set(tensors)))


def _use(folder: Path, approval: Approval, request: "Request") -> None:
    """Count a round or an evaluation: another run, or other weights, make another one; raises ApprovalOverError where
    none is left.
    """
    from prostafed.common.tensors import hash_tensors

    place, evaluates = folder / FOLDER, request.action == "evaluate"
    asked = f"{request.run}/{request.stage}/{request.round}/{hash_tensors(request.tensors)}"
    asked = f"{_EVALUATED}{asked}/{','.join(request.splits)}" if evaluates else asked
    with holding(place / f"{approval.study_hash}.lock", wait=True):
        used = _read_used(place, approval)
        if asked in used:
            return
        rounds = _count_rounds(used)
        most = EVALUATIONS_A_ROUND * approval.rounds
        end = find_end(approval, 0 if evaluates else rounds)
        if evaluates and not end and len(used) - rounds >= most:
            end = f"is used up: {most} models were evaluated"
        if end:
            raise _over(approval, end)
        write_json(_used_place(place, approval), [*used, asked])


def _count_rounds(used: list[str]) -> int:
    return sum(not each.startswith(_EVALUATED) for each in used)


def _read_used(place: Path, approval: Approval) -> list[str]:
    """Return what was trained and evaluated under an approval."""
    path = _used_place(place, approval)
    if not path.exists():
        return []
    with suppress(ValueError):
        used = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(used, list) and all(isinstance(each, str) for each in used):
            return used
    raise _over(approval, f"cannot be used: {path}, which counts its rounds, is damaged")


def _over(approval: Approval, end: str) -> ApprovalOverError:
    again = f"prostafed-site approve {approval.study_hash[:12]}"
    return ApprovalOverError(f"The approval of the study {approval.name} {end}. To go on, approve it again: {again}.")


def _used_place(place: Path, approval: Approval) -> Path:
    return place / f"{approval.study_hash}.used.json"
