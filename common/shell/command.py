"""What every command has in common: a mistake is one sentence and an exit code, never a traceback; JSON stays one
object.
"""

import io
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import typer

from prostafed.common.errors import ProstafedError

TYPER: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False}

# Exit codes of single commands; what every command ends with is said at `run_command`.
NOT_EVERYBODY = 3  # a run came to its end, but not with everybody
NOT_READY, NOT_RUNNING = 1, 3  # `status`: something is to be mended; the program does not run
_TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C


def run_command(app: typer.Typer) -> None:
    """Call a typer app and end the process: 0 done, 1 failed or interrupted, 2 wrong usage or configuration,
    NOT_EVERYBODY where a run finished without somebody."""
    # Read when torch is loaded: threads that wait must sleep. By default they spin, and a training step on two cores
    # takes six times as long beside one other busy process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show
    try:
        code = app(standalone_mode=False)
        if code == _TYPER_INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ProstafedError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("Interrupted; what was finished is kept.", exit_code=1)


def print_json(value: Any) -> None:
    """Print the one object of a --json command."""
    print(json.dumps(value, indent=2, sort_keys=True), flush=True)


def print_result(value: Any, text: str, as_json: bool) -> None:
    """Print what a command gave: the one object of --json, or `text` for a person."""
    print_json(value) if as_json else print(text)


def say_command(program: str, *arguments: object) -> str:
    """Return a command line of one of our programs that can be pasted into the shell this one was called from: where
    this one was called by its path, the other lies beside it.
    """
    called = Path(sys.argv[0])
    beside = called.with_name(program)
    known = shutil.which(program)
    if called.name.startswith("prostafed-") and not (known and beside.exists() and Path(known).samefile(beside)):
        program = str(beside)
    return shlex.join([program, *map(str, arguments)])


def _fail(text: str, exit_code: int) -> None:
    if "--json" in sys.argv[1:]:
        print_json({"error": text, "exit_code": exit_code})
    print(f"Error: {text}", file=sys.stderr)
    sys.exit(exit_code)
