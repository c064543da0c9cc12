"""The site file: where a hospital's cases lie and what it trains on. It never leaves the hospital."""

from pathlib import Path

from pydantic import Field

from prostafed.common.configuration import Section, read_toml
from prostafed.common.errors import ConfigurationError


class Server(Section):
    """How a site reaches its coordinator."""

    address: str = Field(description="host:port of the coordinator's SuperLink")
    root_certificates: Path = Field(strict=False, description="the coordinator's CA certificate, ca.crt")
    key: Path = Field(strict=False, description="this site's private key; the coordinator enrolled its public half")


class Site(Section):
    """A hospital's own settings. Relative paths are relative to the site file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="stable name: lower case, digits, hyphens")
    cases: Path = Field(Path("cases"), strict=False, description="folder of indexed cases")
    splits: Path | None = Field(
        None,
        strict=False,
        description="CSV of case_id, split (train, validation, test); by default drawn from the study's seed",
    )
    memory: Path = Field(Path("memory"), strict=False, description="folder for what the site keeps between rounds")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(0, ge=0, description="CPU threads for training; 0 leaves it to torch")
    server: Server | None = Field(None, description="how the coordinator is reached; not needed in a simulation")


def read_site(path: Path) -> Site:
    """Read a site file, with absolute paths; raises ConfigurationError where the folder of cases is missing."""
    site = read_toml(path, Site)
    folder = path.resolve().parent
    site = site.model_copy(update={"cases": folder / site.cases, "memory": folder / site.memory})
    if site.splits is not None:
        site = site.model_copy(update={"splits": folder / site.splits})
    if site.server is not None:
        files = {"root_certificates": folder / site.server.root_certificates, "key": folder / site.server.key}
        site = site.model_copy(update={"server": site.server.model_copy(update=files)})
    if not site.cases.is_dir():
        raise ConfigurationError(
            f"{path}: the folder of cases {site.cases} does not exist. Index the site's images into it."
        )
    return site
