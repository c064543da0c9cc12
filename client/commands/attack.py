"""attack: how well a model tells whom it was trained on, measured on the hospital's own patients."""

from pathlib import Path
from typing import Annotated

import typer

from prostafed.client.commands.options import DEFAULT_SITE, SiteFile
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json


def attack(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the model bundle.")],
    site_file: SiteFile = DEFAULT_SITE,
    seed: Annotated[int, typer.Option("--seed", help="Of all that the attack draws.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Attack a model that this site helped to train: does it tell the site's training patients from its test patients?

    The figures stay here, in attacks/ beside the site file. They hold no patient's name or number.
    """
    from prostafed.client.attack.own import attack_bundle
    from prostafed.common.privacy.attacks.show import show_findings

    found = attack_bundle(site_file, bundle, seed)
    print_result(found.model_dump(mode="json"), show_findings(found), as_json)
