"""Remarks of libraries stay out of terminals and logs."""

import logging
import warnings

import pytest
from pydicom.dataset import Dataset

from prostafed.common.shell.quiet import quiet


def test_quiet_keeps_values_out_of_terminal_and_logs(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with quiet("pydicom"):
            Dataset().PatientBirthDate = "not a date of Doe"
            logging.getLogger("pydicom").warning("Doe")
    assert warned == []
    assert "Doe" not in capfd.readouterr().err + caplog.text
    with pytest.warns(UserWarning, match="Doe"):  # without it, pydicom tells
        Dataset().PatientBirthDate = "not a date of Doe"
    logging.getLogger("pydicom").warning("Doe")
    assert "Doe" in caplog.text
