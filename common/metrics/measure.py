"""How a number that tells how well a task is done is shown, and within what it lies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a number is shown, and from `least` to `most` what a site may tell of it."""

    label: str
    meaning: str
    higher_is_better: bool = True
    unit: str = ""  # in UCUM's spelling: "mm", "mL"; "" for none
    least: float = 0.0
    most: float = 1.0

    @property
    def title(self) -> str:
        """Return the label with its unit: "Gland HD95 (mm)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def reading(self) -> str:
        """Return which values are good: "1 is perfect"."""
        if (self.least, self.most) == (0, 1) or not self.higher_is_better:
            return f"{1 if self.higher_is_better else 0} is perfect"
        return "higher is better"
