"""The federation file: what is accepted and what a mistake says."""

from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.federation.federation_file import DatasetSite, PhantomSite, read_federation

PHANTOM = '[[site]]\nname = "north"\nsource = "phantom"\ncases = 4\n'


def read(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    (tmp_path / "federation.toml").write_text(text)
    return read_federation(tmp_path / "federation.toml")


def test_sites_of_several_sources_and_roots_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "picai").mkdir()
    extra = '[[site]]\nname = "real"\nsource = "picai"\nroot = "picai"\ncenter = "RUMC"\n'
    phantom, picai = read(tmp_path, PHANTOM + 'scanner = { vendor = "ge" }\nreaders = { count = 3 }\n' + extra).site
    assert isinstance(phantom, PhantomSite)
    assert (phantom.scanner.vendor, phantom.readers.count) == ("ge", 3)
    assert isinstance(picai, DatasetSite)
    assert picai.root == tmp_path / "picai"


@pytest.mark.parametrize("source", DATASETS)
def test_every_dataset_has_a_source(tmp_path: Path, source: str) -> None:
    (tmp_path / "data").mkdir()
    site = f'[[site]]\nname = "real"\nsource = "{source}"\nroot = "data"\n'
    centers = load_dataset(source).centers
    federation = read(tmp_path, site + (f'center = "{centers[0]}"\n' if centers else ""))
    assert federation.site[0].root == tmp_path / "data"
    assert federation.allow_overlap is False
    assert read(tmp_path, "allow_overlap = true\n" + site).allow_overlap is True
    with pytest.raises(ConfigurationError, match=r"unknown key 'site\.1\.rooot'; did you mean 'root'"):
        read(tmp_path, site.replace("root", "rooot"))


def test_only_pi_cai_has_folds(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    site = '[[site]]\nname = "real"\nsource = "picai"\nroot = "data"\nfold = 4\n'
    assert read(tmp_path, site).site[0].fold == 4
    with pytest.raises(ConfigurationError, match=r"site\.1\.fold"):
        read(tmp_path, site.replace("4", "5"))
    with pytest.raises(ConfigurationError, match=r"site\.1\.fold: .*Task05_Prostate has no official split.* Leave"):
        read(tmp_path, site.replace("picai", "msd"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "nci-isbi",
            r"site\.1\.center: NCI-ISBI 2013 .* no center 'Bostn'; did you mean 'Boston'\? Valid: Boston, RUMC",
        ),
        ("promise12", r"site\.1\.center: PROMISE12 does not tell its centres apart, found 'Bostn'\. Leave center out"),
    ],
)
def test_a_center_the_set_does_not_have(tmp_path: Path, source: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        read(tmp_path, f'[[site]]\nname = "real"\nsource = "{source}"\nroot = "."\ncenter = "Bostn"\n')


def test_a_mistake_of_the_source_is_the_only_one_told(tmp_path: Path) -> None:
    for text in (PHANTOM.replace("phantom", "phantoms"), PHANTOM.replace('source = "phantom"\n', "")):
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path, text)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            PHANTOM.replace("phantom", "picaai"),
            r"^[^\n]*site\.1\.source: unknown source 'picaai'; did you mean 'picai'[^\n]*$",
        ),
        (PHANTOM + "case = 3\n", "unknown key 'site.1.case'; did you mean 'cases'"),
        (PHANTOM + 'scanner = { vendr = "ge" }\n', "unknown key 'site.1.scanner.vendr'; did you mean 'vendor'"),
        (PHANTOM + "readers = { count = 9 }\n", "count must be at least 1 and at most 7"),
        (PHANTOM.replace("phantom", "phantoms"), "site.1.source: input should be 'phantom', found 'phantoms'"),
        (PHANTOM.replace('source = "phantom"\n', ""), "site.1: the key 'source' is missing. Add it."),
        (
            '[[site]]\nname = "real"\nsource = "picia"\nroot = "."\n',
            r"site\.1\.source: unknown source 'picia'; did you mean 'picai'\? Valid: cases, .*phantom, .*prostatex",
        ),
        (PHANTOM.replace("4", "0"), "site.1.cases"),
        (PHANTOM.replace("north", "North!"), "site.1.name"),
        (PHANTOM + PHANTOM, "found twice: north"),
        (
            '[[site]]\nname = "real"\nsource = "picai"\nroot = "absent"\n',
            "site 'real': the folder .*absent does not exist",
        ),
        ("", "'site' is missing"),
    ],
)
def test_a_mistake_names_the_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        read(tmp_path, text)
