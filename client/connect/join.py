"""How a hospital joins: with a join file, once, over TLS to a coordinator of the authority that the file names.

Each step can be done again, and is where something failed in between: the folder and the key are made where they are
not there, the coordinator gives the same key the same answer, and the site file is written last.
"""

import json
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cryptography import x509
from pydantic import ValidationError

from prostafed.client.connect.enrolment import ask_to_enrol
from prostafed.client.site.server_table import set_server
from prostafed.client.site.setup import complete_site
from prostafed.client.site.site_file import read_site_file
from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.joining import JoinFile, split_address
from prostafed.common.shell.files import write_text
from prostafed.common.shell.keys import open_node_key

CA_FILE = "ca.crt"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Joined:
    """A site that the coordinator knows from now on."""

    name: str
    address: str
    site_file: Path
    made: bool  # whether the folder is a new one
    warning: str  # about the clock; "" where it is right


def join_federation(path: Path, folder: Path | None, proxy_ca: Path | None, now: datetime) -> Joined:
    """Join with the join file at `path`. `folder` is the site's; by default the current one where it holds a site file,
    else one of the site's name. `proxy_ca` is the certificate, PEM, of a proxy that opens TLS.

    Raises ConfigurationError or RequestError, one sentence, with nothing sent where the file or the folder is wrong.
    """
    join = read_join_file(path, now)
    authorities = join.authority.strip() + "\n" + (_read_proxy_ca(proxy_ca) if proxy_ca else "")
    folder = folder or (Path() if Path("site.toml").exists() else Path(join.name))
    site_file = folder / "site.toml"
    made = not site_file.exists()
    if made:
        complete_site(folder, join.name)
    site = read_site_file(site_file)
    if site.name != join.name:
        raise ConfigurationError(
            f"{site_file} is the site {site.name}, and {path} invites {join.name}. Ask the coordinator for an "
            f"invitation for {site.name}, or name another folder with --folder."
        )
    text = site_file.read_text(encoding="utf-8")
    named = tomllib.loads(text).get("server", {}).get("key", f"{join.name}.key")
    values = {"address": join.address, "root_certificates": CA_FILE, "key": named}
    changed = set_server(text, values, str(site_file))
    key = open_node_key(site.server.key if site.server else folder / named, join.name)
    warning = ask_to_enrol(join, key, authorities)
    write_text(folder / CA_FILE, authorities)
    write_text(site_file, changed)
    return Joined(join.name, join.address, site_file, made, warning)


def read_join_file(path: Path, now: datetime) -> JoinFile:
    """Return what a join file says; raises ConfigurationError where it is none, is over, or is for another release."""
    text = _read_text(path)
    try:
        values = tomllib.loads(text)
        theirs = values["release"]
        if theirs != version("prostafed"):
            raise ConfigurationError(
                f"The coordinator runs prostafed {str(theirs)[:20]!r}, this is {version('prostafed')}. Install the "
                "coordinator's release here."
            )
        join = JoinFile.model_validate_json(json.dumps(values, default=str))
        split_address(join.address)
        authority = x509.load_pem_x509_certificate(join.authority.encode())
        is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (KeyError, ValueError, ValidationError, x509.ExtensionNotFound) as error:
        raise ConfigurationError(
            f"{path} is not a join file, or it is damaged. Ask the coordinator for the one that prostafed-server "
            "invite wrote."
        ) from error
    clock = f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC."
    if now >= join.until.astimezone(UTC):
        raise ConfigurationError(
            f"The invitation ended on {join.until:%Y-%m-%d %H:%M} UTC. {clock} Ask the coordinator for a new one: "
            f"prostafed-server invite {join.name}."
        )
    begin, end = authority.not_valid_before_utc, authority.not_valid_after_utc
    if not is_authority or not begin <= now <= end:
        raise ConfigurationError(
            f"The coordinator's certificate authority in {path} holds from {begin:%Y-%m-%d} to {end:%Y-%m-%d}. {clock} "
            "Set the clock, or ask the coordinator for another join file."
        )
    return join


def _read_proxy_ca(path: Path) -> str:
    text = _read_text(path)
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is no certificate in PEM form. Ask IT for the certificate that the proxy signs with."
        ) from error
    return text.strip() + "\n"


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a text file. Check the path.") from error
