"""prostafed-site: one hospital."""

from pathlib import Path
from typing import Annotated

import typer

from prostafed.common.command import TYPER, print_json, run_command
from prostafed.common.errors import ConfigurationError

app = typer.Typer(help="Take part in a federation as a hospital.", no_args_is_help=True, **TYPER)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.callback()
def site() -> None:
    """Take part in a federation as a hospital."""


@app.command()
def key(
    path: Annotated[Path, typer.Argument(metavar="KEY", help="Where to write the private key, e.g. site.key.")],
    as_json: Json = False,
) -> None:
    """Make the site's key pair; the coordinator enrols KEY.pub, KEY itself never leaves."""
    from prostafed.common.keys import create_node_key

    public = create_node_key(path, path.stem)
    if as_json:
        print_json({"private_key": str(path), "public_key": str(public)})
    else:
        print(f"Send {public} to the coordinator. Keep {path} to yourself.")


@app.command()
def start(
    site_file: Annotated[Path, typer.Argument(metavar="SITE.toml", help="The site file.")],
    as_json: Json = False,
) -> None:
    """Connect to the coordinator and work until Ctrl-C."""
    from prostafed.client.node import start_node
    from prostafed.client.site import read_site

    server = read_site(site_file).server
    if server is None:
        raise ConfigurationError(f"{site_file}: the table [server] is missing. Add address, root_certificates and key.")
    address = server.address

    def on_ready() -> None:
        if as_json:
            print_json({"connected": address})
        typer.echo(f"Connected to {address}. Ctrl-C ends it.", err=True)

    start_node(site_file, address, server.root_certificates, server.key, on_ready=on_ready)


def main() -> None:
    """Entry point."""
    run_command(app)
