"""The engines "local" and "flower" are one federation: same study, same seed, same model."""

import json
import os
from pathlib import Path

import pytest

from prostafed.common.errors import RoundError
from prostafed.simulations.run.engine.flower import Resources, run_on_flower

from .conftest import TinyFederation, assert_same_result

pytestmark = pytest.mark.skipif(
    "RAY_ADDRESS" in os.environ, reason="RAY_ADDRESS is set: the run would go to that cluster"
)


def test_flower_engine_gives_the_model_of_the_local_engine(
    tiny_federation: TinyFederation, local_run: Path, tmp_path: Path
) -> None:
    tiny_federation.write_sites(tmp_path / "sites")
    rounds: list[tuple[int, int]] = []
    run_on_flower(
        {"study": tiny_federation.study.canonical(), "run": "tiny", "initial": ""},
        tmp_path / "run",
        tmp_path / "sites",
        len(tiny_federation.hospitals),
        on_round=lambda record: rounds.append((record.stage, record.round)),
    )
    assert rounds == [(1, 1), (2, 1)]
    assert json.loads((tmp_path / "run" / "state.json").read_text()) == {"state": "finished"}
    assert_same_result(tmp_path / "run", local_run)
    assert not list(Path("/tmp").glob(f"pf-{os.getpid()}-*")), "Ray's files were left behind"


@pytest.mark.slow
def test_flower_engine_says_why_a_run_failed(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    tiny_federation.write_sites(tmp_path / "sites")
    with pytest.raises(RoundError, match=r"ActorPool is empty.*num_gpus"):
        run_on_flower(
            {"study": tiny_federation.study.canonical(), "run": "tiny", "initial": ""},
            tmp_path / "run",
            tmp_path / "sites",
            len(tiny_federation.hospitals),
            resources=Resources(gpus_per_site=1000.0),
        )
    assert "ActorPool is empty" in (tmp_path / "run" / "logs" / "run.log").read_text()
