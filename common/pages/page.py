"""Templates: each report has its own, in its own room; style.css is the same for all."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def open_templates(folder: Path) -> Environment:
    """Return the templates of `folder`, which may include style.css: HTML is escaped, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def format_number(value: float | None, digits: int = 2) -> str:
    """Return the number with so many digits, a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
