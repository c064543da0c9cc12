"""The site manifest: what a hospital knows of its studies beside the images, in three CSV files."""

from prostafed.client.manifest.labels import describe_case
from prostafed.client.manifest.read import check_manifest, find_mistakes, read_manifest
from prostafed.client.manifest.records import Manifest, ManifestFinding
from prostafed.client.manifest.rows import LesionRow, ReadRow, StudyRow

__all__ = [
    "LesionRow",
    "Manifest",
    "ManifestFinding",
    "ReadRow",
    "StudyRow",
    "check_manifest",
    "describe_case",
    "find_mistakes",
    "read_manifest",
]
