"""predict and export: a model on the hospital's own studies, and the hospital's own model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prostafed.client.commands.options import DEFAULT_SITE, Dicom, SiteFile
from prostafed.common.shell.command import print_result
from prostafed.common.shell.options import Json, MinConfidence


def predict(
    model: Annotated[Path, typer.Option("--model", metavar="BUNDLE", help="Folder of the model bundle.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results, one per study.")],
    dicom: Dicom = None,
    site_file: SiteFile = DEFAULT_SITE,
    series_map: Annotated[
        Path | None, typer.Option("--series-map", metavar="CSV", help="Series to use. By default CASES/series_map.csv.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a model read the studies of a PACS export and write its findings as DICOM. Exit 1: it refused some."""
    from prostafed.client import predict_studies
    from prostafed.client.commands.show import list_findings, showing
    from prostafed.client.site.site_file import read_site_file

    settings = read_site_file(site_file)
    with showing("Predicting") as on_study:
        found = predict_studies(settings, model, out, dicom, series_map, on_study)
    print_result(found, show_predictions(found, out), as_json)
    if any(each["severity"] == "F" for each in list_findings(found)):
        raise typer.Exit(1)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run in the site's memory.")],
    model: Annotated[
        Path, typer.Option("--model", metavar="FILE", help="The run's model.safetensors, which the coordinator sends.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="New folder for the bundle.")],
    min_confidence: MinConfidence = None,
    site_file: SiteFile = DEFAULT_SITE,
    as_json: Json = False,
) -> None:
    """Write a run's model with this site's own heads as a bundle for `predict`. The heads never left the site."""
    from prostafed.client.predict.own_model import export_own
    from prostafed.client.site.site_file import read_site_file
    from prostafed.common.bundle.record import Thresholds

    thresholds = Thresholds() if min_confidence is None else Thresholds(min_confidence=min_confidence)
    bundle = export_own(read_site_file(site_file), run, model, out, thresholds)
    text = f"Bundle: {bundle.folder}\nIt holds this site's heads, which never left it: think before passing it on."
    told = {"bundle": str(bundle.folder), "task": bundle.task, "model_sha256": bundle.model_sha256}
    print_result(told, text, as_json)


def show_predictions(found: dict[str, Any], out: Path) -> str:
    """Return what `predict` prints: a line per finding and per study, by pseudonym, and where the results lie."""
    lines = [each["text"] for each in found["findings"]]
    for study in found["studies"]:
        lines += [each["text"] for each in study["findings"]]
        if study["status"] != "refused":
            lines.append(f"{study['study']}: {_say_result(study)}")
    counts = found["counts"]
    done = counts["ready"] + counts["warning"]
    lines.append(f"{done} of {done + counts['refused']} studies predicted, {counts['reused']} of them kept. In {out}.")
    lines.append(
        "For research use. The results carry the patients' identity, as the images do: they stay in the hospital."
    )
    return "\n".join(lines)


def _say_result(study: dict[str, Any]) -> str:
    from prostafed.common.tasks.answer import Quantity

    said = [] if study["score"] is None else [f"score {study['score']:.2f}"]
    if "heat_map.dcm" in study["files"]:
        said.append(f"{len(study['candidates'])} candidates")
    said += [str(Quantity(**each)) for each in study["quantities"]]
    said += [f"{each['name']} {each['volume_ml']:.1f} ml" for each in study["structures"]]
    return ", ".join(said) or "nothing found"
