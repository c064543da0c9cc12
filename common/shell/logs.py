"""What libraries say while a program of ours runs for days: into its log, not onto its terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from prostafed.common.shell.files import open_log

_LIBRARIES = ("flwr", "uvicorn", "httpx")  # those that write to the terminal by themselves
_CHATTY = ("httpx", "alembic")  # a line for each request, for each table


class _Log(logging.StreamHandler[TextIO]):
    """A log that loses lines while its disk is full, and does not tell of each on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave it out."""


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Let all loggers write to the end of `path` from INFO on, and those of `_LIBRARIES` nowhere else."""
    with open_log(path) as stream:
        handler = _Log(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root, loggers = logging.getLogger(), [logging.getLogger(name) for name in _LIBRARIES]
        before = root.level, [(list(each.handlers), each.propagate) for each in loggers]
        handler.setLevel(logging.INFO)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        for each in loggers:
            each.handlers, each.propagate = [], True
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(before[0])
            for each, (handlers, propagate) in zip(loggers, before[1], strict=True):
                each.handlers, each.propagate = handlers, propagate
