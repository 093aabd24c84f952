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
