"""Our programs called in this process, as typed: seconds quicker than a new one each time, which loads torch again."""

import importlib
import json
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
ROOMS = {"prostafed-site": "client", "prostafed-server": "server", "prostafed-sim": "simulations"}


@dataclass(frozen=True)
class Done:
    """What a program has left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(program: str, *arguments: object) -> Done:
    """Run one of our programs to its end, as the script that is installed would."""
    main = importlib.import_module(f"prostafed.{ROOMS[program]}.cli").main
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [str(BIN / program), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert "Traceback" not in err.getvalue()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def paste(line: str) -> Done:
    """Run a command line that one of our programs printed: it names an installed program by its path."""
    program, *arguments = shlex.split(line)
    assert Path(program).parent == BIN
    assert Path(program).is_file()
    return call(Path(program).name, *arguments)
