"""Settings: ranges, strictness, and that neither torch nor pydantic is needed to read them."""

import subprocess
import sys
from dataclasses import fields

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import parse
from prostafed.simulations.phantom.settings import Readers, Scanner


@pytest.mark.parametrize("record", [Scanner, Readers])
def test_every_setting_has_a_default_and_a_description(record):
    record()
    assert all(field.metadata["description"] for field in fields(record))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"field_strength_t": 0.2}, "field_strength_t"),
        ({"coil_bias": -0.1}, "coil_bias"),
        ({"noise": 5.1}, "noise"),
        ({"t2_in_plane_mm": 0.1}, "t2_in_plane_mm"),
        ({"slice_thickness_mm": 9.0}, "slice_thickness_mm"),
        ({"dwi_in_plane_mm": 0.5}, "dwi_in_plane_mm"),
        ({"high_b_value_s_per_mm2": 800.0}, "high_b_value_s_per_mm2"),
        ({"distortion_mm": 11.0}, "distortion_mm"),
        ({"b_values_s_per_mm2": (800.0, 50.0)}, "ascend"),
        ({"b_values_s_per_mm2": (50.0,)}, "two values"),
        ({"b_values_s_per_mm2": ()}, "two values"),
        ({"b_values_s_per_mm2": (50.0, 300.0)}, "span at least 400"),
        ({"b_values_s_per_mm2": (0.0, 50.0, 449.0)}, "b < 50 is left out"),
        ({"b_values_s_per_mm2": (50.0, 1400.0)}, "up to 1000"),
    ],
)
def test_scanner_refuses_what_is_out_of_range(values, named):
    with pytest.raises(ValueError, match=named):
        Scanner(**values)


@pytest.mark.parametrize("values", [{"count": 0}, {"count": 8}, {"kappa": 0.0}, {"kappa": 1.01}])
def test_readers_refuse_what_is_out_of_range(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Readers(**values)


def test_a_federation_file_reads_them_strictly():
    scanner = parse({"vendor": "ge", "b_values_s_per_mm2": [0, 800], "noise": 2}, Scanner, "site.scanner")
    assert scanner == Scanner(vendor="ge", b_values_s_per_mm2=(0.0, 800.0), noise=2.0)
    for wrong in ({"vender": "ge"}, {"vendor": "hitachi"}, {"noise": "2"}, {"noise": 9.0}):
        with pytest.raises(ConfigurationError, match=r"vendor|noise"):
            parse(wrong, Scanner, "site.scanner")


def test_the_generator_needs_numpy_only():
    program = (
        "import sys, prostafed.simulations.phantom.case, prostafed.simulations.phantom.picai_layout;"
        "print([name for name in ('torch', 'pydantic', 'SimpleITK', 'monai', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
