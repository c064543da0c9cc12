"""The hours a site works in."""

from datetime import time

HOURS = r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$"


def is_within(hours: str, now: time) -> bool:
    """Return whether `now` lies within `hours`, e.g. "20:00-06:00", the end left out; "" is always."""
    if not hours:
        return True
    start, end = (time.fromisoformat(each) for each in hours.split("-"))
    inside = now.replace(tzinfo=None)
    return start <= inside < end if start < end else inside >= start or inside < end
