"""Admission before arithmetic: a reply that does not fit the round is left out, with a code in the round record."""

import numpy as np

from prostafed.common.errors import CheckpointError
from prostafed.common.messages import Reply, Request
from prostafed.common.tensors import Tensors, check_layout


class RejectedError(Exception):
    """A reply was not admitted; `code` and the text go into the round record."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def admit(reply: Reply, request: Request, site: str) -> None:
    """Raise RejectedError unless `reply` answers `request` for `site` with finite tensors that fit those sent."""
    if (reply.site, reply.study_hash) != (site, request.study_hash):
        raise RejectedError("WRONG_STUDY", f"the reply names site {reply.site} and study {reply.study_hash[:12]}")
    if (reply.stage, reply.round) != (request.stage, request.round):
        raise RejectedError("WRONG_ROUND", f"the reply is for stage {reply.stage}, round {reply.round}")
    if reply.cases < 1 and request.action == "train":
        raise RejectedError("NO_CASES", f"the reply counts {reply.cases} cases")
    if request.action == "train":
        _admit_tensors(reply.tensors, request.tensors)


def _admit_tensors(tensors: Tensors, sent: Tensors) -> None:
    try:
        check_layout(sent, tensors)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise RejectedError("NOT_FINITE", f"{name} holds values that are not finite")
