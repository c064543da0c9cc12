"""The site file: defaults, relative paths, what must exist."""

from pathlib import Path

import pytest

from prostafed.client.site.site_file import open_site, read_site_file
from prostafed.common.errors import ConfigurationError


def write(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    server = '[server]\naddress = "fl:1"\nroot_certificates = "ca.crt"\nkey = "/keys/k"\n'
    site = read_site_file(write(tmp_path, f'name = "north"\ndicom = "../export"\nsplits = "s.csv"\n{server}'))
    assert site.cases == tmp_path / "cases"
    assert site.manifest == tmp_path / "manifest"
    assert site.secret == tmp_path / "site.secret"
    assert site.dicom == tmp_path / "../export"
    assert site.splits == tmp_path / "s.csv"
    assert site.server is not None
    assert (site.server.root_certificates, site.server.key) == (tmp_path / "ca.crt", Path("/keys/k"))


def test_what_is_not_said_stays_unsaid(tmp_path):
    site = read_site_file(write(tmp_path, 'name = "north"\n'))
    assert (site.dicom, site.splits, site.server) == (None, None, None)
    assert site.center == "north"
    assert read_site_file(write(tmp_path, 'name = "north"\ncenter = "RUMC"\n')).center == "RUMC"


def test_training_needs_the_folder_of_cases_and_indexing_does_not(tmp_path):
    path = write(tmp_path, 'name = "north"\n')
    read_site_file(path)
    with pytest.raises(ConfigurationError, match=r"folder of cases .* does not exist"):
        open_site(path)
    (tmp_path / "cases").mkdir()
    assert open_site(path).cases.is_dir()


@pytest.mark.parametrize(("line", "expected"), [('dicon = "x"', "did you mean 'dicom'"), ('center = "a b"', "center")])
def test_a_mistake_is_named(tmp_path, line, expected):
    with pytest.raises(ConfigurationError, match=expected):
        read_site_file(write(tmp_path, f'name = "north"\n{line}\n'))


def test_what_the_machine_does_is_said_in_the_file(tmp_path):
    site = read_site_file(write(tmp_path, 'name = "north"\n'))
    assert (site.precision, site.micro_batch, site.compile, site.processes) == ("auto", 0, False, 1)
    assert site.checkpoint_minutes == 5
    keys = 'precision = "bf16"\nmicro_batch = 2\ncompile = true\nprocesses = 4\ncheckpoint_minutes = 0.5\n'
    site = read_site_file(write(tmp_path, f'name = "north"\n{keys}'))
    assert (site.precision, site.micro_batch, site.compile, site.processes) == ("bf16", 2, True, 4)
    assert site.checkpoint_minutes == 0.5
    for line in ('precision = "int8"', "micro_batch = -1", "processes = 0", "checkpoint_minutes = -1.0"):
        with pytest.raises(ConfigurationError):
            read_site_file(write(tmp_path, f'name = "north"\n{line}\n'))


@pytest.mark.parametrize(
    ("device", "processes"),
    [("cuda:1", 2), ("cuda:0,cuda:1", 1), ("cuda:1,cuda:1", 2), ("cuda:0,cuda:1", 3)],
)
def test_numbered_gpus_are_one_for_each_process(tmp_path, device, processes):
    with pytest.raises(ConfigurationError, match="Name one for each process"):
        read_site_file(write(tmp_path, f'name = "north"\ndevice = "{device}"\nprocesses = {processes}\n'))


def test_a_list_of_gpus_is_read(tmp_path):
    assert read_site_file(write(tmp_path, 'name = "north"\n')).devices == ("auto",)
    site = read_site_file(write(tmp_path, 'name = "north"\ndevice = "cuda:0,cuda:2"\nprocesses = 2\n'))
    assert site.devices == ("cuda:0", "cuda:2")
    for device in ("cuda,cuda:1", "cpu,cuda:1", "cuda:0,"):
        with pytest.raises(ConfigurationError, match="device"):
            read_site_file(write(tmp_path, f'name = "north"\ndevice = "{device}"\nprocesses = 2\n'))
