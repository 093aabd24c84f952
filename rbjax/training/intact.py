"""What of a folder of checkpoints is whole: by a manifest of SHA-256 digests in each."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from rbjax import atomic

MANIFEST = "sha256.json"
AGAIN, BEFORE = ".again", ".before"
"""Suffixes of a step that is written again, and of what it takes the place of."""


def recover(directory: Path) -> None:
    """Puts a checkpoint that was written again in its place, or deletes it where it is unfinished.

    Nothing else works there.
    """
    for folder in directory.glob(f"*{AGAIN}"):
        if (folder / MANIFEST).exists() and not folder.with_suffix("").exists():
            folder.rename(folder.with_suffix(""))
        else:
            shutil.rmtree(folder)
    for folder in directory.glob(f"*{BEFORE}"):
        if folder.with_suffix("").exists():
            shutil.rmtree(folder)
        else:
            folder.rename(folder.with_suffix(""))


def delete(path: Path) -> None:
    """Deletes a step."""
    # The manifest first: after an interrupted deletion, what remains is no longer a checkpoint.
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)


def damage(path: Path) -> str | None:
    """Returns what is wrong with a step, or None if every file is as it was written."""
    try:
        digests = atomic.read_json(path / MANIFEST)
    except FileNotFoundError:
        return f"unfinished: it has no {MANIFEST}"
    except (ValueError, OSError):
        return f"{MANIFEST} is damaged"
    if not isinstance(digests, dict) or not digests:
        return f"{MANIFEST} is damaged"
    for name, said in digests.items():
        if len(name) > 1000 or "\0" in name:
            return f"{MANIFEST} is damaged"
        if not (path / name).is_file():
            return f"{name} is missing"
        if digest(path / name) != said:
            return f"{name} is damaged"
    files = (file for file in path.rglob("*") if file.is_file())
    names = {file.relative_to(path).as_posix() for file in files} - {MANIFEST}
    names = {name for name in names - digests.keys() if not name.endswith(atomic.TEMPORARY)}
    return f"{MANIFEST} does not list {min(names)}" if names else None


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
