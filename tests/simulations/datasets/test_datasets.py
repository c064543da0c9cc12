"""The table: what loads, and what an entry must tell."""

import subprocess
import sys
from dataclasses import replace

import pytest

from prostafed.common.errors import ConfigurationError, DataError
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.dataset import FACTS, stop


def test_a_wrong_name_lists_the_valid_ones():
    with pytest.raises(ConfigurationError, match="unknown dataset 'picia'; did you mean 'picai'"):
        load_dataset("picia")


@pytest.mark.parametrize("fact", ["name", *(fact for fact in FACTS if fact != "centers")])
def test_an_entry_without_a_fact_is_refused(fact):
    with pytest.raises(ConfigurationError, match=f"expected its {fact}, found none. Write it into the entry"):
        replace(load_dataset("msd"), **{fact: ""})


@pytest.mark.parametrize("sequences", [("adc",), ("adc", "t2w"), ("t2w", "cor")])
def test_an_entry_has_the_t2w_first_and_no_sequence_that_nobody_knows(sequences):
    with pytest.raises(
        ConfigurationError, match=f"expected the sequences t2w .* found {', '.join(sequences)}. Correct"
    ):
        replace(load_dataset("msd"), sequences=sequences)


@pytest.mark.parametrize(
    ("module", "found"),
    [("prostafed.simulations.datasets.picai", "that of 'picai'"), ("prostafed.simulations.datasets.survey", "none")],
)
def test_a_line_of_the_table_that_leads_to_another_set_or_to_none_is_refused(monkeypatch, module, found):
    monkeypatch.setitem(DATASETS, "other", module)
    with pytest.raises(ConfigurationError, match=f"dataset 'other': expected DATASET of that name in .* found {found}"):
        load_dataset("other")


def test_stop_raises_what_it_is_given():
    error = DataError("one")
    with pytest.raises(DataError) as caught:
        stop(error)
    assert caught.value is error


def test_the_table_alone_loads_neither_torch_nor_simpleitk():
    program = "import sys, prostafed.simulations.datasets; print({'torch', 'SimpleITK'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_facts_alone_do_not_load_torch():
    program = (
        "import sys; from prostafed.simulations.datasets import DATASETS, load_dataset;"
        "[load_dataset(name) for name in DATASETS]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
