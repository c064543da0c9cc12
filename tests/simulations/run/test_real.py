"""The two real PI-CAI studies go the whole way, beside a generated hospital."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.common.study import Study
from prostafed.simulations.federation.federation_file import DatasetSite, Federation, PhantomSite
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation


@pytest.mark.data
def test_two_real_studies_pretrain_finetune_and_are_shown(study: Study, data_folder: Path, tmp_path: Path) -> None:
    real = DatasetSite(source="picai", name="real", root=data_folder / "picai_layout", center="RUMC")
    federation = Federation(site=(real, PhantomSite(source="phantom", name="north", cases=6)))
    report = run_simulation(
        Simulation(study, federation, tmp_path / "run", tmp_path), resume=False, watchers=Watchers()
    )
    assert "Partly generated images" in report.read_text()
    shown = [np.load(path) for path in sorted((tmp_path / "run" / "examples").glob("real-*.npz"))]
    assert {str(case["case_id"]) for case in shown} == {"real-10795_1000811", "real-11373_1001396"}
    assert all(case["gland"].any() and case["t2w"].std() > 0 for case in shown)
    assert any(case["lesion"].any() for case in shown)
    assert all(str(case["source"]) == "picai" for case in shown)
