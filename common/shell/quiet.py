"""Libraries kept quiet while they work: their remarks quote values and paths."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL, getLogger


@contextmanager
def quiet(*names: str, level: int = CRITICAL + 1) -> Iterator[None]:
    """Keep all warnings, and what the loggers called `names` say below `level`, out of terminals and logs."""
    before = {logger: logger.level for logger in map(getLogger, names)}
    for logger in before:
        logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, own in before.items():
            logger.setLevel(own)
