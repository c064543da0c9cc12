"""A new site's folder."""

import stat

import pytest

from prostafed.client.manifest import read_manifest
from prostafed.client.site.identity import read_secret
from prostafed.client.site.setup import init_site
from prostafed.client.site.site_file import open_site, read_site_file
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.keys import read_public_key


def test_all_a_site_needs_is_there_and_private(tmp_path):
    made = init_site(tmp_path / "north", "north")
    site = open_site(made.site_file)
    assert (site.name, site.server) == ("north", None)
    assert len(read_secret(site.secret)) == 32
    assert read_manifest(site.manifest).studies == ()
    read_public_key(made.public_key)
    private = [site.secret, made.public_key.with_suffix("")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600, 0o600]
    assert site.memory.is_dir()
    folders = [tmp_path / "north", site.cases, site.memory, site.manifest]  # images, predictions, names of patients
    assert [stat.S_IMODE(path.stat().st_mode) for path in folders] == [0o700] * 4


def test_a_folder_that_was_there_keeps_its_rights(tmp_path):
    (tmp_path / "north").mkdir(mode=0o750)
    init_site(tmp_path / "north", "north")
    assert stat.S_IMODE((tmp_path / "north").stat().st_mode) == 0o750


def test_the_commented_server_table_is_a_valid_one(tmp_path):
    path = init_site(tmp_path, "north").site_file
    text = path.read_text()
    table = text[text.index("# [server]") :].replace("# ", "")
    path.write_text(f'name = "north"\n{table}')
    server = read_site_file(path).server
    assert server is not None
    assert server.key == tmp_path / "north.key"


@pytest.mark.parametrize("there", ["site.toml", "site.secret", "north.key", "north.key.pub"])
def test_nothing_is_overwritten_or_half_made(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigurationError, match=f"holds {there} already"):
        init_site(tmp_path, "north")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize("name", ["North", "", "-x", "a b", "../x", "x" * 42])
def test_a_name_that_is_none_makes_nothing(tmp_path, name):
    with pytest.raises(ConfigurationError, match="expected lower case letters"):
        init_site(tmp_path / "new", name)
    assert not (tmp_path / "new").exists()


def test_two_sites_have_two_secrets(tmp_path):
    first, second = (init_site(tmp_path / name, name) for name in ("a", "b"))
    assert read_secret(first.secret) != read_secret(second.secret)
