"""How far this machine's clock is from the coordinator's, as an answer over HTTP tells."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_AHEAD_S, _BEHIND_S = 5.0, 300.0  # what Flower takes: a node's message must not come from the future, nor be old


def read_skew_s(date: str, now: datetime) -> float:
    """Return the seconds that `now` is ahead of the Date header of an answer; 0 where the header is none."""
    try:
        said = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return 0.0
    return (now - said.replace(tzinfo=said.tzinfo or UTC)).total_seconds()


def say_skew(skew_s: float) -> str:
    """Return a sentence where the coordinator would refuse what a clock that is so far ahead signs; else ""."""
    if -_BEHIND_S < skew_s < _AHEAD_S:
        return ""
    side = "ahead of" if skew_s > 0 else "behind"
    return (
        f"This machine's clock is {say_time(abs(skew_s))} {side} the coordinator's, which refuses such a one. Set it, "
        "best by NTP, before the site starts."
    )


def say_time(seconds: float) -> str:
    """Return "12 minutes" and so on."""
    for unit, length_s in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}s"
    return f"{seconds:.0f} seconds"
