"""The site file: where a hospital's cases lie and what it trains on. It never leaves the hospital."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from prostafed.client.site.hours import HOURS
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import Section, read_toml


class Server(Section):
    """How a site reaches its coordinator."""

    address: str = Field(description="host:port of the coordinator's SuperLink")
    root_certificates: Path = Field(strict=False, description="the coordinator's CA certificate, ca.crt")
    key: Path = Field(strict=False, description="this site's private key; the coordinator enrolled its public half")


class Worker(Section):
    """What the coordinator's requests may take of this machine."""

    hours: str = Field(
        "",
        pattern=HOURS,
        description="the hours it trains and evaluates in, e.g. 20:00-06:00 by this machine's clock; empty: always. A "
        "round under way is finished",
    )
    memory_gb: float = Field(
        0.0, ge=0, description="main memory of the worker and its processes, above which it is ended; 0: no limit"
    )
    free_disk_gb: float = Field(2.0, ge=0, description="free disk space below which nothing is begun")
    largest_request_mb: int = Field(4096, ge=1, description="size of a request above which it is refused")
    largest_answer_mb: int = Field(4096, ge=1, description="size of an answer's tensors above which it does not leave")


class SitePrivacy(Section):
    """What a hospital asks of every study, whatever the study says."""

    epsilon_budget: float = Field(
        0.0,
        ge=0,
        description="the most that all studies together may cost a patient, by the ledger; a round beyond it is "
        "declined, and so is every round without noise. 0: no limit",
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="probability that the ledger's epsilon does not hold")
    minimum_cohort: int = Field(20, ge=1, description="training patients below which a stage is declined")
    canaries: int = Field(
        0,
        ge=0,
        description="made-up units that DP-SGD trains on beside the patients, half of them drawn by lot; how well the "
        "lot can be told afterwards is a lower bound of epsilon. 1000 show a bound up to about 5; 0: not audited",
    )
    hold: bool = Field(False, description="whether each update waits in the outbox until a person lets it leave")
    noise_seed: int | None = Field(
        None, ge=0, description="for simulations: noise that can be repeated, and hides nothing"
    )


class Site(Section):
    """A hospital's own settings. Relative paths are relative to the site file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="stable name: lower case, digits, hyphens")
    center: str = Field(
        "", pattern=r"^[A-Za-z0-9_-]{0,32}$", description="centre its records name; by default the name"
    )
    cases: Path = Field(Path("cases"), strict=False, description="folder of indexed cases")
    dicom: Path | None = Field(None, strict=False, description="folder of the PACS export, where --dicom is not given")
    manifest: Path = Field(Path("manifest"), strict=False, description="folder of studies.csv, lesions.csv, reads.csv")
    secret: Path = Field(
        Path("site.secret"), strict=False, description="the secret pseudonyms are made with; it never leaves"
    )
    splits: Path | None = Field(
        None,
        strict=False,
        description="CSV of case_id, split (train, validation, test); by default drawn from the study's split_seed",
    )
    memory: Path = Field(Path("memory"), strict=False, description="folder for what the site keeps between rounds")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda|cuda:\d+(,cuda:\d+)*)$",
        description="auto, cpu, cuda or cuda:N; with several processes a GPU for each, as in cuda:0,cuda:2, where cuda "
        "and auto stand for the first ones",
    )
    threads: int = Field(0, ge=0, description="CPU threads for training; 0 leaves it to torch")
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        "auto",
        description="of forward passes; auto: bf16 on a GPU that computes in it, fp16 on another, float32 on a CPU",
    )
    micro_batch: int = Field(
        0,
        ge=0,
        description="cases passed through the network at once, their gradients added up; 0: the whole batch. Not used "
        "where a loss compares the cases of a batch with each other",
    )
    compile: bool = Field(False, description="whether torch.compile is used: slower to start, then faster")
    processes: int = Field(
        1,
        ge=1,
        description="processes that train one network, each with a part of the batch, on a GPU of its own where there "
        "are GPUs. Not used where a loss compares the cases of a batch with each other",
    )
    checkpoint_minutes: float = Field(
        5.0,
        ge=0,
        description="minutes between checkpoints inside a round, from which an interrupted one goes on; 0: none",
    )
    minimum_cell: int = Field(
        10,
        ge=1,
        description="patients below which no count, metric or cell of a histogram leaves the site; what is withheld is "
        "said to be, small cells are joined",
    )
    share_cohort: bool = Field(
        False,
        description="whether the coordinator is told the scanners' vendors and how many patients have which "
        "diagnosis, PI-RADS, age, PSA, volume and sequences, in classes, cells below minimum_cell hidden",
    )
    scanners: tuple[Literal["siemens", "ge", "philips", "uih", "other"], ...] = Field(
        (), description="vendors of its scanners, told with share_cohort only"
    )
    server: Server | None = Field(None, description="how the coordinator is reached; not needed in a simulation")
    privacy: SitePrivacy = Field(SitePrivacy(), description="what the hospital asks of every study")
    worker: Worker = Field(Worker(), description="what the coordinator's requests may take of this machine")

    @property
    def devices(self) -> tuple[str, ...]:
        """What it trains on: auto, cpu or cuda alone, or numbered GPUs, one for each of `processes`."""
        return tuple(self.device.split(","))

    @model_validator(mode="after")
    def _a_gpu_for_each_process(self) -> "Site":
        numbered = {name for name in self.devices if ":" in name}
        if numbered and (len(numbered) != self.processes or len(numbered) != len(self.devices)):
            raise ValueError(
                f"processes is {self.processes}, and device grants {len(numbered)} GPUs ({self.device}). Name one for "
                'each process, as in device = "cuda:0,cuda:2" for two.'
            )
        return self


def read_site_file(path: Path) -> Site:
    """Read a site file, with absolute paths; the folder of cases need not exist yet."""
    if not path.is_file():
        raise ConfigurationError(
            f"There is no site file {path}. Run the command in the site's folder, or name the file; "
            "prostafed-site init makes one."
        )
    site = read_toml(path, Site)
    folder = path.resolve().parent
    names = ("cases", "dicom", "manifest", "memory", "secret", "splits")
    paths = {name: folder / value for name in names if (value := getattr(site, name)) is not None}
    site = site.model_copy(update={"center": site.center or site.name, **paths})
    if site.server is not None:
        files = {"root_certificates": folder / site.server.root_certificates, "key": folder / site.server.key}
        site = site.model_copy(update={"server": site.server.model_copy(update=files)})
    return site


def open_site(path: Path) -> Site:
    """Read a site file, with absolute paths; raises ConfigurationError where the folder of cases is missing."""
    site = read_site_file(path)
    if not site.cases.is_dir():
        raise ConfigurationError(
            f"{path}: the folder of cases {site.cases} does not exist. Index the site's images into it."
        )
    return site


def find_dicom(site: Site, dicom: Path | None) -> Path:
    """Return the folder of the PACS export, absolute; raises ConfigurationError where none is named."""
    folder = dicom or site.dicom
    if folder is None:
        raise ConfigurationError("Name the folder of the PACS export: --dicom DIR, or `dicom` in the site file.")
    return folder.resolve()
