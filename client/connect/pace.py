"""How fast a site answers: each answer is a line in its audit and its logs, and a coordinator that asks without end
would fill the disk with them.
"""

import time

AT_ONCE, EVERY_S = 600.0, 1.0  # so many questions as fast as they come, and then one in so many seconds


class Pace:
    """Questions that may be answered at once; they are saved up while none comes."""

    def __init__(self) -> None:
        """Start rested."""
        self._saved, self._at = AT_ONCE, time.monotonic()

    def keep(self) -> None:
        """Wait, where it is too soon for another question."""
        now = time.monotonic()
        self._saved = min(AT_ONCE, self._saved + (now - self._at) / EVERY_S) - 1.0
        self._at = now
        if self._saved < 0.0:
            time.sleep(-self._saved * EVERY_S)
