"""Which files below a folder may be images: names, sizes and kinds only, nothing is opened."""

import os
from dataclasses import dataclass
from pathlib import Path

from prostafed.client.findings import Finding, make_finding
from prostafed.common.errors import ConfigurationError

MAX_FILES = 500_000  # below one folder: some 3 kB of memory each while they are read

# What exports, viewers and operating systems put beside images; skipped without a word.
_COMPANIONS = {"dicomdir", "lockfile", "thumbs.db", "desktop.ini", "autorun.inf", "license", "readme", "version"}
_COMPANION_SUFFIXES = (
    *(".xml", ".json", ".csv", ".tsv", ".txt", ".md", ".log", ".pdf", ".html", ".htm", ".css", ".js", ".xls", ".xlsx"),
    *(".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".nii", ".nii.gz", ".mha", ".mhd", ".raw", ".nrrd"),
    *(".md5", ".sha256", ".exe", ".dll", ".inf", ".ini", ".bat", ".sh", ".bval", ".bvec", ".docx"),
)
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".iso")


@dataclass(frozen=True)
class Found:
    """Files that may be images, by path, and how many others lie beside them."""

    files: tuple[Path, ...]
    sizes: tuple[int, ...]  # bytes, of `files`
    empty: tuple[Path, ...]
    archives: int = 0
    links: int = 0
    companions: int = 0
    closed: int = 0  # folders that could not be listed
    overflow: bool = False  # more than the limit: `files` is not complete


def walk(root: Path, limit: int = MAX_FILES) -> Found:
    """Return what lies below `root`, in an order that does not depend on the file system; links are not followed.

    Raises ConfigurationError where `root` is no folder.
    """
    if not root.is_dir():
        raise ConfigurationError("The DICOM folder was not found, or it is no folder. Give the folder of the export.")
    files: list[Path] = []
    sizes: list[int] = []
    empty: list[Path] = []
    archives = links = companions = closed = 0
    folders = [root]
    while folders and len(files) <= limit:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            closed += 1
            continue
        below = []
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                links += 1
            elif entry.is_dir():
                below.append(path)
            elif is_companion(entry.name) or not entry.is_file():  # not a file: a socket, a pipe; opening it may hang
                companions += 1
            elif entry.name.lower().endswith(_ARCHIVES):
                archives += 1
            elif size := _get_size(path):
                files.append(path)
                sizes.append(size)
            else:
                empty.append(path)
        folders += below[::-1]
    overflow = len(files) > limit
    return Found(tuple(files), tuple(sizes), tuple(empty), archives, links, companions, closed, overflow)


def is_companion(name: str) -> bool:
    """Whether a file of this name lies beside images without being one."""
    lower = name.lower()
    hidden = lower.startswith(".")
    return hidden or lower in _COMPANIONS or lower.endswith(_COMPANION_SUFFIXES)


def _get_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was listed
        return 0


def describe(found: Found, limit: int = MAX_FILES) -> list[Finding]:
    """Return the findings about a folder as a whole; each counts, none names a file."""
    findings = []

    def say(code: str, text: str) -> None:
        findings.append(make_finding("-", code, text))

    if found.overflow:
        say("TOO_MANY_FILES", f"expected at most {limit} files below the folder, found more; index it in parts.")
    if found.archives:
        say("ZIP_FOUND", f"expected DICOM files, found {count(found.archives, 'archive')}; unpack first.")
    if found.links:
        say("SYMLINK_SKIPPED", f"{count(found.links, 'symbolic link')} not followed; copy what they point at instead.")
    if found.closed:
        text = f"{count(found.closed, 'folder')} could not be opened; give the account that indexes the right to read."
        findings.append(make_finding("-", "UNREADABLE", text))
    return findings


def count(number: int, noun: str, ending: str = "s") -> str:
    """Return e.g. "1 file", "2 files"; `ending` is that of the plural."""
    return f"{number} {noun}{ending if number != 1 else ''}"
