"""The layouts of public sets, for the contract of datasets."""

from tests.simulations.datasets.conftest import calibration, copied, written

__all__ = ["calibration", "copied", "written"]
