"""The three commands as people type them: a link and two sites on loopback, over TLS and with enrolled keys.

They end with the model of the local engine; a site whose key is not enrolled is refused, and one that is enrolled but
calls itself another's name is not let in.
"""

from pathlib import Path

from tests.server.records.ledger_lines import read_ledger

from .conftest import TinyFederation, assert_same_result
from .deployment import Deployment, wait_for


def test_deployed_run_gives_the_model_of_the_local_engine(
    tiny_federation: TinyFederation, local_run: Path, deployment: Deployment
) -> None:
    home, folder = deployment.home, deployment.folder
    north, south = tiny_federation.write_sites(folder / "sites")
    stranger, impostor = (folder / "sites" / name / "site.toml" for name in ("stranger", "west"))
    for copy in (stranger, impostor):  # both say that they are south
        copy.parent.mkdir()
        copy.write_text(south.read_text())

    deployment.ask("prostafed-server", "init", "--home", home)
    keys = [deployment.add_server(site_file) for site_file in (north, south, stranger, impostor)]
    for site_file in (north, south, impostor):
        deployment.approve(site_file, tiny_federation.study_file)
    deployment.ask("prostafed-server", "enrol", "north", keys[0], "--home", home)  # before the link runs
    link = deployment.start("link", "prostafed-server", "--home", home, "--port", deployment.port)
    wait_for(lambda: "Ready" in deployment.said("link"), link, 180)
    deployment.ask("prostafed-server", "enrol", "south", keys[1], "--home", home)  # and while it does
    deployment.ask("prostafed-server", "enrol", "west", keys[3], "--home", home)
    connecting = deployment.start("west", "prostafed-site", impostor)
    wait_for(lambda: "Connected" in deployment.said("west"), connecting, 180)

    for site_file in (north, south):
        deployment.start(site_file.parent.name, "prostafed-site", site_file)
    refused = deployment.start("stranger", "prostafed-site", stranger)
    options = ("--home", home, "--sites", 2, "--name", "tiny")
    run = Path(deployment.ask("prostafed-server", "run", tiny_federation.study_file, *options, deadline_s=600)["run"])
    assert run == home / "runs" / "tiny"
    assert_same_result(run, local_run)
    assert "<strong>Generated images</strong>" in (run / "report.html").read_text()

    turned_away = {(line.site, line.text[:10]) for line in read_ledger(run) if line.event == "refused"}
    assert turned_away == {("west", "WRONG_NAME")}
    assert refused.wait(timeout=30) == 2
    assert "refused the key" in deployment.said("stranger")
    assert "Connected" not in deployment.said("stranger")
    assert all("Connected" in deployment.said(name) for name in ("north", "south"))
    assert deployment.end()[:3] == [0, 0, 0]
