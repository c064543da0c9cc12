"""The log of a program that runs for days: what does not get into it is no trouble of the terminal's."""

import logging
from pathlib import Path

import pytest

from prostafed.common.shell.logs import logging_to


def test_lines_go_to_the_log_and_end_with_it(tmp_path: Path) -> None:
    with logging_to(tmp_path / "link.log"):
        logging.getLogger("prostafed.site").info("ready")
    logging.getLogger("prostafed.site").warning("over")
    assert (tmp_path / "link.log").read_text().endswith("INFO prostafed.site: ready\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_fills_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        with logging_to(Path("/dev/full")):
            logging.getLogger("prostafed.site").info("ready")
    except OSError:  # what is left is written as the file is closed
        pass
    assert "Logging error" not in capfd.readouterr().err
