"""What a study cannot ask for where the server sees the sum of updates alone: masked, or whole numbers in the open."""

from collections.abc import Iterable

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.study.privacy import Privacy
from prostafed.common.study.rounds import Round

FIXED = ("fixed16", "fixed32")
FEWEST_MASKED = 3  # from the sum of two each could tell the other's update


def check_sums(privacy: Privacy, section: Round, aggregators: Iterable[str]) -> None:
    """Raise ValueError, with the reason and what to use instead, for what a sum does not serve."""
    fitting = ", ".join(name for name, entry in AGGREGATORS.items() if not entry.single)
    masked = privacy.secure_aggregation
    if masked and section.compress not in FIXED:
        raise ValueError(
            f"compress is '{section.compress}', and masks cancel only where whole numbers are added. Leave it out, or "
            "use 'fixed32' or 'fixed16'."
        )
    if masked and 0 < section.most_replies() < FEWEST_MASKED:
        raise ValueError(
            f"secure_aggregation needs {FEWEST_MASKED} sites in a round, and one takes {section.most_replies()} at "
            "most. Raise participants or close_after in [round]."
        )
    if section.compress not in FIXED:
        return
    why = "masks hide it" if masked else f"compress '{section.compress}' adds up what arrives"
    for name in sorted(set(aggregators)):
        if single := AGGREGATORS[name].single:
            raise ValueError(f"aggregate '{name}' needs {single}, and {why}. Use one of {fitting}.")
    if section.norm_limit not in (0.0, Round().norm_limit):
        raise ValueError(
            f"norm_limit is {section.norm_limit:g}, which needs the norm of each update, and {why}. Leave it out: each "
            "site refuses a change beyond the range of its numbers."
        )
