"""Options that commands of several programs have."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study file: what is learnt, and how.")]
Initial = Annotated[Path | None, typer.Option("--initial", help="The file of weights that the study names.")]
MinConfidence = Annotated[
    float | None,
    typer.Option("--min-confidence", min=0, max=1, help="Show candidates from this confidence on. By default 0.1."),
]
