"""The federation file: who takes part in a simulation, and where each emulated hospital's cases come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import Section, read_toml
from prostafed.simulations.federation.faults import Fault
from prostafed.simulations.phantom.settings import Readers, Scanner

SITE_NAME = r"^[a-z0-9][a-z0-9-]{0,40}$"
_CENTER = Field("", description="only studies of this centre; empty takes all")


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


class PhantomSite(EmulatedSite):
    """A hospital of generated cases."""

    source: Literal["phantom"] = Field(description="generated images")
    cases: int = Field(ge=1, description="how many to generate")
    seed: int = Field(0, ge=0, description="another seed, other patients; a study's own seed changes none of them")
    center: Literal["RUMC", "ZGT", "PCNN"] = Field("RUMC", description="PI-CAI centre whose published rates it follows")
    scanner: Scanner = Field(Scanner(), description="the emulated scanner, a table")
    readers: Readers = Field(Readers(), description="who reads its cases, a table")


class PicaiSite(EmulatedSite):
    """A hospital of cases in the PI-CAI layout."""

    source: Literal["picai"] = Field(description="PI-CAI layout: MHA images, masks, marksheet")
    root: Path = Field(strict=False, description="folder that holds images/; relative to the federation file")
    center: str = _CENTER
    fold: int | None = Field(
        None, ge=0, le=4, description="only studies that the official split (picai_splits.json) validates in this fold"
    )


class ProstatexSite(EmulatedSite):
    """A hospital of PROSTATEx cases."""

    source: Literal["prostatex"] = Field(description="PROSTATEx: DICOM, table of findings")
    root: Path = Field(strict=False, description="folder of ProstateX-NNNN/; relative to the federation file")
    center: str = _CENTER


class Prostate158Site(EmulatedSite):
    """A hospital of Prostate158 cases."""

    source: Literal["prostate158"] = Field(description="Prostate158: NIfTI and tables")
    root: Path = Field(strict=False, description="folder of prostate158_train/; relative to the federation file")
    center: str = _CENTER


class MsdSite(EmulatedSite):
    """A hospital of cases of the Medical Segmentation Decathlon, T2 and ADC only."""

    source: Literal["msd"] = Field(description="MSD Task05_Prostate: NIfTI")
    root: Path = Field(strict=False, description="folder of Task05_Prostate/; relative to the federation file")
    center: str = _CENTER


class Promise12Site(EmulatedSite):
    """A hospital of PROMISE12 cases, T2 only."""

    source: Literal["promise12"] = Field(description="PROMISE12: MHD files")
    root: Path = Field(strict=False, description="folder of CaseXX.mhd; relative to the federation file")


class NciIsbiSite(EmulatedSite):
    """A hospital of NCI-ISBI 2013 cases, T2 only."""

    source: Literal["nci-isbi"] = Field(description="NCI-ISBI 2013: DICOM, masks as NRRD")
    root: Path = Field(strict=False, description="folder of series and masks; relative to the federation file")
    center: str = _CENTER


class CasesSite(EmulatedSite):
    """A hospital whose cases are indexed already."""

    source: Literal["cases"] = Field(description="a folder of indexed cases")
    root: Path = Field(strict=False, description="folder of *.safetensors cases; relative to the federation file")


DatasetSite = PicaiSite | ProstatexSite | Prostate158Site | MsdSite | Promise12Site | NciIsbiSite
SimulatedSite = PhantomSite | DatasetSite | CasesSite


class Federation(Section):
    """Everyone who takes part."""

    site: Annotated[tuple[Annotated[SimulatedSite, Field(discriminator="source")], ...], Field(min_length=1)] = Field(
        description="one table per emulated hospital"
    )
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
