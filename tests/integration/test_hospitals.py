"""Three hospitals and a coordinator, each in a network namespace, as people start them: join, approve, start.

The study ends with the model of the local engine. Meanwhile others try: a stranger who holds ca.crt, a stolen and an
expired join file, an enrolled site with another's name. Each gets nothing, and each leaves a line.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from prostafed.common.study import Study, read_study
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import prepare_hospital
from prostafed.simulations.run.engine.local import run_local
from tests.programs import call
from tests.server.records.ledger_lines import read_ledger

from .conftest import STUDY, TinyFederation, assert_same_result
from .deployment import COORDINATOR, Deployment, find_command, wait_for
from .namespaces import make_network, why_not

# A bundle that leaves a trace where its code is run or merely imported.
ATTACK = """
from pathlib import Path
Path({trace!r}).write_text("run")
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.clientapp import ClientApp
app, client = ServerApp(), ClientApp()
@app.main()
def main(grid: Grid, context: Context) -> None:
    pass
"""
MANIFEST = """
[project]
name = "attack"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "nobody"
[tool.flwr.app.components]
serverapp = "attack.app:app"
clientapp = "attack.app:client"
[tool.flwr.app.config]
"""
STRANGER = """
import ssl, sys, httpx
authority, url, *paths = sys.argv[1:]
with httpx.Client(verify=ssl.create_default_context(cafile=authority)) as client:
    for path in paths:
        print(client.post(url + path).status_code)
"""
PATHS = ("control/list-runs", "control/start-run", "control/register-node", "fleet/register-node", "runtime/get-nodes")
HOSPITALS = ("north", "south", "west")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Namespaces where they can be made, loopback elsewhere."""
    with ExitStack() as stack:
        network = None if why_not() else stack.enter_context(make_network(COORDINATOR, *HOSPITALS, "stranger"))
        made = Deployment(tmp_path, network=network)
        stack.callback(made.end)
        yield made


def write_study(folder: Path) -> Study:
    (folder / "study.toml").write_text(STUDY.replace("quorum = 2", "quorum = 3"))
    return read_study(folder / "study.toml")


def test_three_hospitals_and_those_who_are_none(
    tiny_federation: TinyFederation, deployment: Deployment, tmp_path: Path
) -> None:
    home, study = deployment.home, write_study(tmp_path)
    third = prepare_hospital(PhantomSite(source="phantom", name="west", cases=8), study, tmp_path, lambda *_: None)
    hospitals = TinyFederation(tmp_path / "study.toml", study, (*tiny_federation.hospitals, third))
    sites = dict(zip(HOSPITALS, hospitals.write_sites(tmp_path / "sites"), strict=True))

    deployment.ask("prostafed-server", "init", "--home", home, "--host", deployment.host)
    link = deployment.start(COORDINATOR, "prostafed-server", "--home", home, "--port", deployment.port)
    wait_for(lambda: "Ready" in deployment.said(COORDINATOR), link, 60)
    for name, site_file in sites.items():
        join = invite(deployment, name)
        deployment.ask("prostafed-site", "join", join, "--folder", site_file.parent, where=name)
        done = call("prostafed-site", "approve", tmp_path / "study.toml", "--site", site_file, "--yes")
        assert done.code == 0, done.err
        deployment.start(name, "prostafed-site", site_file)

    look_in_from_outside(deployment)
    try_the_attack(deployment)
    join_with_what_is_not_theirs(deployment, sites["north"].parent)
    pose_as_south(deployment, sites["south"])

    options = ("--home", home, "--name", "tiny", "--sites", 3)
    run = deployment.ask("prostafed-server", "run", tmp_path / "study.toml", *options, deadline_s=300)
    assert run["complete"]
    run_local(study, "tiny", tmp_path / "local", list(hospitals.write_sites(tmp_path / "again")))
    assert_same_result(home / "runs" / "tiny", tmp_path / "local")
    assert "<strong>Generated images</strong>" in (home / "runs" / "tiny" / "report.html").read_text()
    refused = [line for line in read_ledger(home / "runs" / "tiny") if line.event == "refused"]
    turned_away = {(line.site, line.text[:10]) for line in refused}
    assert turned_away == {("east", "WRONG_NAME")}
    assert not (tmp_path / "trace").exists()

    why = {(line["asked"], line["why"]) for line in read_lines(home / "door.jsonl") if line["event"] == "refused"}
    assert {
        ("POST /v1/control/list-runs", "not served"),
        ("POST /v1/control/start-run", "not served"),
        ("POST /v1/fleet/register-node", "not served"),
        ("POST /v1/join", "join: USED"),
        ("POST /v1/join", "join: EXPIRED"),
    } <= why
    audit = [line["event"] for line in read_lines(sites["north"].parent / "audit.jsonl")]
    # who it is, a round of each stage, the evaluation of the second
    assert audit == ["approved", *["received", "answered"] * 4]
    assert deployment.end()[0] == 0


def invite(deployment: Deployment, name: str) -> Path:
    join = deployment.folder / f"{name}.join"
    address = f"{deployment.host}:{deployment.port}"
    deployment.ask("prostafed-server", "invite", name, "--host", address, "--out", join, "--home", deployment.home)
    return join


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def look_in_from_outside(deployment: Deployment) -> None:
    """A stranger with ca.crt asks the paths of Flower's other interfaces."""
    url, authority = f"https://{deployment.host}:{deployment.port}/v1/", deployment.home / "pki" / "ca.crt"
    command = [*deployment.inside("stranger"), find_command("python"), "-c", STRANGER, str(authority), url, *PATHS]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["404"] * len(PATHS)


def try_the_attack(deployment: Deployment) -> None:
    """The stranger submits a run that brings code, with Flower's own command."""
    folder = deployment.folder / "attack"
    (folder / "attack").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(MANIFEST)
    (folder / "attack" / "__init__.py").write_text("")
    (folder / "attack" / "app.py").write_text(ATTACK.format(trace=str(deployment.folder / "trace")))
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "target"\n[superlink.target]\naddress = "{deployment.host}:{deployment.port}"\n'
        f'root-certificates = "{deployment.home / "pki" / "ca.crt"}"\n'
    )
    command = [*deployment.inside("stranger"), "env", f"FLWR_HOME={folder / 'home'}", "FLWR_TELEMETRY_ENABLED=0"]
    command += ["FLWR_DISABLE_UPDATE_CHECK=1", find_command("flwr"), "run", str(folder), "target"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Successfully" not in said.stdout


def join_with_what_is_not_theirs(deployment: Deployment, north: Path) -> None:
    """A join file that was used, and one that has expired."""
    late = invite(deployment, "late")
    kept = deployment.home / "invitations" / "late.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"until": "2020-01-01T00:00:00Z"}))
    key = (north / "north.key").read_bytes()
    for name in ("north", "late"):
        join = deployment.folder / f"{name}.join"
        thief = deployment.folder / f"thief-{name}"
        done = deployment.call("stranger", "prostafed-site", "join", join, "--folder", thief)
        assert done.returncode == 1, done.stderr
        assert "does not take this invitation" in done.stderr
    assert (north / "north.key").read_bytes() == key
    late.unlink()


def pose_as_south(deployment: Deployment, south: Path) -> None:
    """An enrolled site says in its own site file that it is another one; its hospital approved the study, too."""
    east = deployment.folder / "sites" / "east"
    deployment.ask("prostafed-site", "join", invite(deployment, "east"), "--folder", east, where="stranger")
    site_file, own = east / "site.toml", south.read_text()
    server = site_file.read_text()
    site_file.write_text(own[: own.index("[server]")] + server[server.index("\n[server]") :])
    approved = call("prostafed-site", "approve", deployment.folder / "study.toml", "--site", site_file, "--yes")
    assert approved.code == 0, approved.err
    posing = deployment.start("stranger", "prostafed-site", site_file)
    wait_for(lambda: "Connected" in deployment.said("stranger"), posing, 60)
