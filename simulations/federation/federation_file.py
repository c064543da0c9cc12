"""The federation file: who takes part in a simulation, and where each emulated hospital's cases come from."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from prostafed.common.errors import ConfigurationError, nearest
from prostafed.common.imaging.cases import GENERATED
from prostafed.common.shell.configuration import Section, read_toml
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.federation.faults import Fault
from prostafed.simulations.phantom.settings import Readers, Scanner

SITE_NAME = r"^[a-z0-9][a-z0-9-]{0,40}$"
CASES = "cases"  # the source of cases that are indexed already


class EmulatedSite(Section):
    """What every emulated hospital has."""

    name: str = Field(pattern=SITE_NAME, description="stable name: lower case, digits, hyphens")
    faults: tuple[Fault, ...] = Field((), description="what goes wrong there; tables")
    minimum_cell: int = Field(
        1,
        ge=1,
        description="patients below which the site tells nothing of them; a hospital's is 10, but who simulates has "
        "all the cases anyway",
    )

    @property
    def title(self) -> str:
        """Return what its cases are, for a reader; nothing where `source` says it."""
        return ""


class PhantomSite(EmulatedSite):
    """A hospital of generated cases."""

    source: Literal["phantom"] = Field(description="generated images")
    cases: int = Field(ge=1, description="how many to generate")
    seed: int = Field(0, ge=0, description="another seed, other patients; a study's own seed changes none of them")
    center: Literal["RUMC", "ZGT", "PCNN"] = Field("RUMC", description="PI-CAI centre whose published rates it follows")
    scanner: Scanner = Field(Scanner(), description="the emulated scanner, a table")
    readers: Readers = Field(Readers(), description="who reads its cases, a table")


class DatasetSite(EmulatedSite):
    """A hospital of cases of a public set."""

    tag: ClassVar[str] = "dataset"
    kind_key: ClassVar[str] = "source"
    source: str = Field(description=f"a public set, see `prostafed-sim datasets`: {', '.join(DATASETS)}")
    root: Path = Field(strict=False, description="folder of the set as published; relative to the federation file")
    center: str = Field("", description="only studies of this centre of the set; empty takes all")
    fold: int | None = Field(
        None, ge=0, description="only studies that the set's official split, if any, validates in this fold; from 0"
    )

    @property
    def title(self) -> str:
        """Return the title of its set."""
        return load_dataset(self.source).title

    @field_validator("source")
    @classmethod
    def _listed(cls, source: str) -> str:
        if source not in DATASETS:
            raise ValueError(f"unknown source '{source}'{nearest(source, (GENERATED, CASES, *DATASETS))}")
        return source

    @field_validator("center")
    @classmethod
    def _told_apart(cls, center: str, info: ValidationInfo) -> str:
        if not center or "source" not in info.data:
            return center
        dataset = load_dataset(info.data["source"])
        if not dataset.centers:
            raise ValueError(f"{dataset.title} does not tell its centres apart, found '{center}'. Leave center out.")
        if center not in dataset.centers:
            raise ValueError(f"{dataset.title} has no center '{center}'{nearest(center, dataset.centers)}")
        return center

    @field_validator("fold")
    @classmethod
    def _in_split(cls, fold: int | None, info: ValidationInfo) -> int | None:
        if fold is None or "source" not in info.data:
            return fold
        dataset = load_dataset(info.data["source"])
        if not dataset.folds:
            raise ValueError(f"{dataset.title} has no official split, found fold {fold}. Leave fold out.")
        if fold >= dataset.folds:
            raise ValueError(f"the official split of {dataset.title} has folds 0 to {dataset.folds - 1}, found {fold}.")
        return fold


class CasesSite(EmulatedSite):
    """A hospital whose cases are indexed already."""

    source: Literal["cases"] = Field(description="a folder of indexed cases")
    root: Path = Field(strict=False, description="folder of *.safetensors cases; relative to the federation file")

    @property
    def title(self) -> str:
        """Return what is known of them."""
        return "indexed by the site"


SimulatedSite = PhantomSite | DatasetSite | CasesSite


def _tell_kind(site: Any) -> str | None:
    """Return the kind of site that a source means, or seems to mean; what is like no other kind is a public set."""
    source = site.get("source") if isinstance(site, dict) else getattr(site, "source", None)
    if source is None:
        return None
    close = get_close_matches(str(source), (GENERATED, CASES, *DATASETS), n=1, cutoff=0.7)
    return close[0] if close and close[0] not in DATASETS else DatasetSite.tag


class Federation(Section):
    """Everyone who takes part."""

    site: Annotated[
        tuple[
            Annotated[
                Annotated[PhantomSite, Tag(GENERATED)]
                | Annotated[DatasetSite, Tag(DatasetSite.tag)]
                | Annotated[CasesSite, Tag(CASES)],
                Discriminator(
                    _tell_kind,
                    custom_error_type="value_error",
                    custom_error_context={"error": "the key 'source' is missing. Add it."},
                ),
            ],
            ...,
        ],
        Field(min_length=1),
    ] = Field(description="one table per emulated hospital")
    allow_overlap: bool = Field(
        False, description="run although a patient is at several sites; otherwise that stops the run"
    )

    @field_validator("site")
    @classmethod
    def _distinct(cls, sites: tuple[SimulatedSite, ...]) -> tuple[SimulatedSite, ...]:
        names = [site.name for site in sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"every site needs a name of its own, found twice: {', '.join(twice)}.")
        return sites


def read_federation(path: Path) -> Federation:
    """Read a federation file, with absolute roots; raises ConfigurationError where a root is missing."""
    return find_roots(read_toml(path, Federation), path.resolve().parent, str(path))


def find_roots(federation: Federation, folder: Path, where: str) -> Federation:
    """Return `federation` with absolute roots, relative ones below `folder`; raises ConfigurationError, which begins
    with `where`, if one is missing.
    """
    sites: list[SimulatedSite] = []
    for site in federation.site:
        if isinstance(site, PhantomSite):
            sites.append(site)
            continue
        root = (folder / site.root).resolve()
        if not root.is_dir():
            raise ConfigurationError(
                f"{where}: site '{site.name}': the folder {root} does not exist. Correct its root."
            )
        sites.append(site.model_copy(update={"root": root}))
    return federation.model_copy(update={"site": tuple(sites)})
