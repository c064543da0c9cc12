"""The federation file: who takes part in a simulation, and where each emulated hospital's cases come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prostafed.common.configuration import Section, read_toml
from prostafed.common.errors import ConfigurationError
from prostafed.simulations.phantom.settings import Readers, Scanner

SITE_NAME = r"^[a-z0-9][a-z0-9-]{0,40}$"


class PhantomSite(Section):
    """A hospital of generated cases."""

    source: Literal["phantom"] = Field(description="generated images")
    name: str = Field(pattern=SITE_NAME, description="stable name: lower case, digits, hyphens")
    cases: int = Field(ge=1, description="how many to generate")
    center: Literal["RUMC", "ZGT", "PCNN"] = Field("RUMC", description="PI-CAI centre whose published rates it follows")
    scanner: Scanner = Field(Scanner(), description="the emulated scanner, a table")
    readers: Readers = Field(Readers(), description="who reads its cases, a table")


class PicaiSite(Section):
    """A hospital of cases in the PI-CAI layout."""

    source: Literal["picai"] = Field(description="PI-CAI layout: MHA images, masks, marksheet")
    name: str = Field(pattern=SITE_NAME, description="stable name: lower case, digits, hyphens")
    root: Path = Field(strict=False, description="folder that holds images/; relative to the federation file")
    center: str = Field("", description="only studies of this centre; empty takes all")


class CasesSite(Section):
    """A hospital whose cases are indexed already."""

    source: Literal["cases"] = Field(description="a folder of indexed cases")
    name: str = Field(pattern=SITE_NAME, description="stable name: lower case, digits, hyphens")
    root: Path = Field(strict=False, description="folder of *.safetensors cases; relative to the federation file")


SimulatedSite = PhantomSite | PicaiSite | CasesSite


class Federation(Section):
    """Everyone who takes part."""

    site: Annotated[tuple[Annotated[SimulatedSite, Field(discriminator="source")], ...], Field(min_length=1)] = Field(
        description="one table per emulated hospital"
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
    federation = read_toml(path, Federation)
    sites: list[SimulatedSite] = []
    for site in federation.site:
        if isinstance(site, PhantomSite):
            sites.append(site)
            continue
        root = (path.resolve().parent / site.root).resolve()
        if not root.is_dir():
            raise ConfigurationError(f"{path}: site '{site.name}': the folder {root} does not exist. Correct its root.")
        sites.append(site.model_copy(update={"root": root}))
    return Federation(site=tuple(sites))
