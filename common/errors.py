"""The errors prostafed raises on purpose. Each message says what was expected, what was found, where, and what to do.

ProstafedError
├── ConfigurationError   a study, federation or site file, or a command's arguments        exit code 2
├── DataError            an image, a mask, a table or a case folder                         exit code 1
│   └── DivergedError    training that ran away: a loss far above where it began            exit code 1
├── CheckpointError      tensors that do not fit the model or the study they are loaded for  exit code 1
├── ApprovalError        a study that a site has not approved                                exit code 1
│   └── ApprovalOverError    or not any more                                                 exit code 1
├── PrivacyError         what the site's own rules of privacy forbid
│   ├── BudgetError          a round that costs patients more than the site allows           exit code 1
│   ├── CohortError          a stage with too few training patients                          exit code 1
│   ├── HeldError            an answer that waits for a person to let it leave               exit code 1
│   ├── DeclinedError        or that the person has declined                                 exit code 1
│   └── HaltedError          a site that lets nothing leave                                  exit code 1
├── MaskError            masks of a round that do not verify                                 exit code 1
│   └── PeerError            or name a hospital that nobody approved                         exit code 1
├── InitialError         weights to start from that are not those a site was shown           exit code 1
├── RequestError         a request that a site does not answer                               exit code 1
│   └── AlreadyToldError another one about test patients of whom the site has told           exit code 1
├── JoinError            a hospital's invitation that is not redeemed                        exit code 1
├── RoundError           a round that could not be aggregated                                exit code 1
└── StorageError         a disk that does not take a file                                    exit code 1
"""

import difflib
from collections.abc import Iterable


class ProstafedError(Exception):
    """Base of every error raised on purpose; `exit_code` is what a command ends with, `code` all that a site sends."""

    exit_code = 1
    code = "INTERNAL"  # among messages.REFUSALS


class ConfigurationError(ProstafedError):
    """A file or argument written by a person is wrong."""

    exit_code = 2
    code = "CONFIGURATION"


class DataError(ProstafedError):
    """An image, a mask, a table or a case folder cannot be used."""

    code = "DATA"


class DivergedError(DataError):
    """A round of training whose loss is not finite, or far above where it began: nothing of it is sent."""

    code = "DIVERGED"


class CheckpointError(ProstafedError):
    """Tensors do not fit the model or the study they are loaded for."""

    code = "CHECKPOINT"


class ApprovalError(ProstafedError):
    """A study waits for a person of the hospital to approve it."""

    code = "NOT_APPROVED"


class ApprovalOverError(ApprovalError):
    """An approval has ended, was withdrawn, or its rounds are used up."""

    code = "APPROVAL_OVER"


class PrivacyError(ProstafedError):
    """The site's own rules of privacy forbid it."""


class BudgetError(PrivacyError):
    """A round would cost patients more than the site allows."""

    code = "BUDGET_SPENT"


class CohortError(PrivacyError):
    """A stage has fewer training patients than the site takes part with."""

    code = "SMALL_COHORT"


class HeldError(PrivacyError):
    """An answer waits in the outbox for a person to let it leave."""

    code = "HELD"


class DeclinedError(PrivacyError):
    """A person has declined to let an answer leave."""

    code = "DECLINED"


class HaltedError(PrivacyError):
    """The site lets nothing leave."""

    code = "HALTED"


class MaskError(ProstafedError):
    """Keys, shares or lists of a round's masks do not verify."""

    code = "WRONG_MASKS"


class PeerError(MaskError):
    """A round's masks name a hospital that nobody here approved, or one with another key."""

    code = "UNKNOWN_PEER"


class InitialError(ProstafedError):
    """The weights to start from are not those of the file that the study names."""

    code = "WRONG_INITIAL"


class RequestError(ProstafedError):
    """A request is none that a site answers: damaged, or for a stage, round or split the study does not have."""

    code = "UNKNOWN_REQUEST"


class AlreadyToldError(RequestError):
    """A request asks for test patients of whom the site has told already, with another model."""

    code = "TEST_TOLD"


class JoinError(ProstafedError):
    """An invitation is not redeemed. The message is the same whatever is wrong: it goes to whoever asks. `reason` is
    for the coordinator's own records.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("This invitation is not valid. Ask the coordinator for a new one.")
        self.reason = reason


class RoundError(ProstafedError):
    """A round could not be aggregated."""


class StorageError(ProstafedError):
    """A disk does not take a file: it is full, a quota or limit is reached, or permissions are missing."""

    code = "STORAGE"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the closest valid one, then all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"{hint} Valid: {', '.join(names)}."
