import inspect
import subprocess
import sys

import pytest

from prostafed.common.errors import ConfigurationError, DataError
from prostafed.simulations.datasets import DATASETS, Importer, load_importer, stop


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_keeps_the_contract(name):
    importer = inspect.signature(load_importer(name)).parameters
    contract = dict(inspect.signature(Importer.__call__).parameters)
    del contract["self"]
    assert list(importer)[: len(contract)] == list(contract)
    assert all(parameter.default is not parameter.empty for parameter in list(importer.values())[3:])
    assert importer["on_error"].default is stop


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_names_an_empty_folder_and_says_where_to_get_the_set(name, tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        load_importer(name)(tmp_path, None, ("t2w",))
    assert "." in DATASETS[name].origin


def test_a_wrong_name_lists_the_valid_ones():
    with pytest.raises(ConfigurationError, match="unknown dataset 'picia'; did you mean 'picai'"):
        load_importer("picia")


def test_stop_raises_what_it_is_given():
    error = DataError("one")
    with pytest.raises(DataError) as caught:
        stop(error)
    assert caught.value is error


def test_the_table_alone_loads_neither_torch_nor_simpleitk():
    program = "import sys, prostafed.simulations.datasets; print({'torch', 'SimpleITK'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
