"""join: from a coordinator's join file to a site that it knows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from prostafed.common.shell.command import print_result, say_command
from prostafed.common.shell.options import Json


def join(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The join file that the coordinator sent you.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="The site's folder. By default this one if it holds a site file, else one of the site's name.",
        ),
    ] = None,
    proxy_ca: Annotated[
        Path | None,
        typer.Option(
            "--proxy-ca",
            metavar="FILE",
            help="Certificate that a proxy of the hospital signs with if it opens TLS.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Join a federation: make the site's folder and key where they are missing, and let the coordinator enrol the key.

    The key stays here. A command that failed can be run again.
    """
    from prostafed.client.connect.join import join_federation

    joined = join_federation(file, folder, proxy_ca, datetime.now(UTC))
    told = {"site": str(joined.site_file), "name": joined.name, "coordinator": joined.address, "made": joined.made}
    lines = [f"Joined: the coordinator at {joined.address} knows this site as {joined.name}."]
    if joined.made:
        home = joined.site_file.parent
        lines += [
            f"Made {home}. Keep a copy of {home / 'site.secret'} in a safe place of the hospital: pseudonyms are made "
            "with it.",
            f"Name the folder of the PACS export in {joined.site_file} (dicom), then index it there: prostafed-site "
            "index, prostafed-site check.",
        ]
    lines += [joined.warning] if joined.warning else []
    lines += [f"Connect: {say_command('prostafed-site', 'start', joined.site_file)}"]
    print_result(told | ({"warning": joined.warning} if joined.warning else {}), "\n".join(lines), as_json)
