"""A simulation becomes a bundle in one step, or a sentence says what is missing."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from prostafed.client.site.identity import read_secret
from prostafed.client.site.site_file import read_site_file
from prostafed.common.bundle.record import WEIGHTS, read_bundle
from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.study import Study
from prostafed.simulations import simulate
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.run.export import export_simulation, list_next, read_finished


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def whole_run(study: Study, federation: Federation, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose heads travelled."""
    values = json.loads(study.canonical())
    values |= {"stage": [{"kind": "finetune", "rounds": 1, "share": ["encoder", "heads"]}], "arms": {"compare": []}}
    return simulate(values, federation, tmp_path_factory.mktemp("whole") / "run", cache=cache).folder


def test_the_heads_of_the_named_site_complete_the_model(run: Path) -> None:
    made = export_simulation(run, "south")
    assert made["bundle"] == str(run / "bundle-south")
    assert (made["site"], made["task"], made["generated"]) == ("south", "lesion", True)
    bundle = read_bundle(run / "bundle-south")
    assert (bundle.record.origin, bundle.model_sha256) == ("south", made["model_sha256"])
    exported, shared = load_file(bundle.folder / WEIGHTS), load_file(run / "model.safetensors")
    assert all((exported[name] == shared[name]).all() for name in shared if name.startswith("encoder."))
    own = load_file(run / "arms/federated/sites/south/memory/federated/stage-2/round-00002.safetensors")
    heads = [name for name in exported if not name.startswith("encoder.")]
    assert heads
    assert all((exported[name] == own[name]).all() for name in heads)


def test_every_hospital_gets_its_own_secret_once(run: Path) -> None:
    files = [run / "arms" / "federated" / "sites" / name / "site.toml" for name in ("north", "south")]
    export_simulation(run, "south")
    secrets = [read_secret(read_site_file(file).secret) for file in files]
    assert secrets[0] != secrets[1]
    export_simulation(run, "north", min_confidence=0.4)
    assert [read_secret(read_site_file(file).secret) for file in files] == secrets
    assert read_bundle(run / "bundle-north").record.thresholds.min_confidence == 0.4


def test_a_whole_model_is_the_federations(whole_run: Path, tmp_path: Path) -> None:
    made = export_simulation(whole_run, out=tmp_path / "mine")
    assert (made["site"], made["bundle"]) == ("", str(tmp_path / "mine"))
    assert read_bundle(tmp_path / "mine").record.origin == "federation"
    assert "enerated" in (tmp_path / "mine" / "docs" / "README.md").read_text()
    assert "--site" not in list_next(whole_run)[0]
    assert export_simulation(whole_run, "north")["site"] == "north", "a site's own is there for the asking"


def test_where_heads_stayed_the_sites_are_listed(run: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--site north or --site south\.$"):
        export_simulation(run)
    with pytest.raises(ConfigurationError, match="unknown site 'sout'; did you mean 'south'"):
        export_simulation(run, "sout")
    assert not list(run.glob("bundle*"))
    described = json.loads((run / "federation.json").read_text())
    (run / "federation.json").write_text(json.dumps({"sites": described["sites"][:1]}))
    assert export_simulation(run)["site"] == "north", "of one site nobody has to be named"


def test_what_cannot_be_exported_is_one_sentence(run: Path, study: Study, tmp_path: Path) -> None:
    described = json.loads((run / "study.json").read_text())
    pretraining = {**described, "study": {**described["study"], "stage": described["study"]["stage"][:1]}}
    (run / "study.json").write_text(json.dumps(pretraining))
    with pytest.raises(ConfigurationError, match="Expected a fine-tuning stage to export"):
        export_simulation(run)
    assert list_next(run) == []
    (run / "model.safetensors").unlink()
    with pytest.raises(DataError, match=f"not finished.*--out {run} --resume"):
        read_finished(run)
    (run / "federation.json").unlink()
    with pytest.raises(ConfigurationError, match=f"prostafed-server export {run}"):
        read_finished(run)
    with pytest.raises(DataError, match="not a run folder"):
        read_finished(tmp_path)
