"""The hospital: its cases, its training, its memory, and the gate everything leaves through. A call loads torch.

from prostafed.client import index_studies, predict_studies, read_site_file

site = read_site_file(Path("site.toml"))
index_studies(site, dicom=Path("/data/export"))
predict_studies(site, Path("bundle"), Path("results"))
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prostafed.client.site.site_file import Site, read_site_file

__all__ = ["Site", "index_studies", "predict_studies", "read_site_file"]


def index_studies(
    site: Site,
    dicom: Path | None = None,
    study_file: Path | None = None,
    on_study: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Make cases of a PACS export, as `prostafed-site index` does, and return the index with its findings.

    `dicom` is the export, else the site file names it; `study_file` the study whose grid and sequences count, else the
    defaults. `on_study(done, of)` is called as studies are done. Raises ConfigurationError where a folder or the
    manifest is wrong, DataError where a case cannot be written.
    """
    from prostafed.client.ingest.index import index_site, request_index
    from prostafed.common.study import Data, read_study

    data = read_study(study_file).data if study_file else Data()
    return index_site(request_index(site, data, dicom), on_study)


def predict_studies(
    site: Site,
    model: Path,
    out: Path,
    dicom: Path | None = None,
    series_map: Path | None = None,
    on_study: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Show the studies of a PACS export to the bundle `model`, as `prostafed-site predict` does, and return what
    OUT/predict.json says: the studies with their findings, by pseudonym.

    `series_map` says which series to use, else CASES/series_map.csv where there is one. Raises ConfigurationError where
    a folder, the map or the bundle is wrong, CheckpointError where a file of the bundle is damaged.
    """
    from prostafed.client.ingest.index import SERIES_MAP
    from prostafed.client.ingest.series_map import read_uses
    from prostafed.client.site.identity import read_secret
    from prostafed.client.site.site_file import find_dicom
    from prostafed.common.bundle.record import read_bundle

    secret, folder, bundle = read_secret(site.secret), find_dicom(site, dicom), read_bundle(model)
    map_path = series_map or site.cases / SERIES_MAP
    uses = read_uses(map_path) if series_map or map_path.is_file() else {}
    from prostafed.client.predict.run import PredictRequest, predict_site

    return predict_site(PredictRequest(folder, out, bundle, secret, site.devices[0], uses), on_study)
