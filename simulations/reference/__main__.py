"""python -m prostafed.simulations.reference DIR."""

import sys
from pathlib import Path

from prostafed.simulations.reference.pages import write_reference

write_reference(Path(sys.argv[1]))
