"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str], *, field: str = "path") -> Path:
    """Returns a path with `~` and `~user` replaced by the home folder they stand for.

    Shells do that for a word that begins with `~`, but not inside `--workdir=~/runs`.

    Args:
        path: as it was given.
        field: what the message calls it.

    Raises:
        ValueError: if it is no path, or there is no such user, or no home folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"{field} is {path!r:.60}; it must be a path, text or a pathlib.Path")
    text = os.fspath(path)
    full = os.path.expanduser(text)
    if text.startswith("~") and full == text:
        user = text[1:].partition("/")[0]
        whose = f"no user {user!r}" if user else "no home folder"
        raise ValueError(f"{field} = {text!r}: there is {whose}; a folder of that name is ./{text}")
    return Path(full)


def of_a_file(path: str | os.PathLike[str], *, field: str = "path") -> Path:
    """Returns the path of a file that can be written there, `expanded`.

    Raises:
        ValueError: if its folder is not there, or a folder is in its place.
    """
    place = expanded(path, field=field)
    if not place.parent.is_dir():
        raise ValueError(f"{field} = {str(path)!r}: there is no folder {str(place.parent)!r}")
    if place.is_dir():
        raise ValueError(f"{field} = {str(path)!r}: is a folder; give a file in it")
    return place


def of_a_folder(path: str | os.PathLike[str], *, field: str) -> Path:
    """Returns the path of a folder that is there or can be made, `expanded`.

    Raises:
        ValueError: if it is empty, or a file is in its place.
    """
    place = expanded(path, field=field)
    if not os.fspath(path):
        raise ValueError(f"{field} is ''; it must name a folder; the current one is '.'")
    if place.exists() and not place.is_dir():
        raise ValueError(f"{field} = {str(path)!r}: is a file; give a folder")
    return place
