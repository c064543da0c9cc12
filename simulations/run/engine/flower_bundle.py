"""The app bundle that Flower's simulation runtime asks for: it names the two apps and the keys, and holds no code."""

from importlib.metadata import version
from pathlib import Path

from prostafed.common.shell.files import make_folder, write_text

SERVER_APP = "prostafed.server.app:app"
CLIENT_APP = "prostafed.client.app:app"
RUN_KEYS = (
    "study",
    "run",
    "out",
    "sites",
    "sites_expected",
    "initial",
)  # all text; Flower refuses keys not declared here

_README = "The apps of this bundle are those of the installed prostafed release; the bundle itself holds no code.\n"


def write_bundle(folder: Path, server_app: str = SERVER_APP, client_app: str = CLIENT_APP) -> Path:
    """Write the bundle into `folder`, to be given to `flwr run`, and return the folder."""
    make_folder(folder)
    keys = "\n".join(f'{key} = ""' for key in RUN_KEYS)
    write_text(folder / "README.md", _README)
    write_text(
        folder / "pyproject.toml",
        f"""[project]
name = "prostafed"
version = "{version("prostafed")}"
description = "Names the apps of the installed prostafed release"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "prostafed"
fab-include = ["/README.md"]

[tool.flwr.app.components]
serverapp = "{server_app}"
clientapp = "{client_app}"

[tool.flwr.app.config]
{keys}
""",
    )
    return folder
