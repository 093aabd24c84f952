"""The directory of one run: what it was asked to do, and that nothing else writes into it.

A run directory belongs to one config for good.  The same config continues the run in it; another
one is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rbjax import atomic

CONFIG_FILE = "config.json"
_SHOWN = 5
_ABSENT = "absent"


def prepare(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    *,
    ignored: Sequence[str] = ("workdir", "data_dir"),
    usual: Mapping[str, Any] | None = None,
) -> bool:
    """Makes a run directory, or checks that an existing one belongs to the same config.

    Args:
        workdir: the directory; its parents are made too.
        config: a nested mapping of plain values, all that decides what the run does.
        ignored: dotted names of fields that may differ, such as paths.
        usual: what each field is when left out, which stands for what the config of a run from
            before there were versions of the schema does not have.

    Returns:
        Whether the directory already held this config, so that the run in it continues.

    Raises:
        ValueError: if it holds another config, or files and no config; nothing is written then.
    """
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir = {str(workdir)!r}: is a file; give a folder")
    if (workdir / CONFIG_FILE).exists():
        _refuse_other_config(workdir, config, ignored, usual or {})
        return True
    # What a killed `prepare` leaves behind does not count as somebody's file.
    files = sorted(p.name for p in workdir.iterdir()) if workdir.exists() else []
    files = [name for name in files if not name.endswith(atomic.TEMPORARY)]
    if files:
        raise ValueError(
            f"workdir = {str(workdir)!r}: holds {', '.join(files[:_SHOWN])} and no {CONFIG_FILE}, "
            "so it is not a run directory; give an empty or a new folder"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    atomic.write_json(workdir / CONFIG_FILE, config)
    return False


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the config of a run.

    Args:
        workdir: a run directory.

    Returns:
        The nested dict `prepare` was given, tuples as lists.

    Raises:
        ValueError: if it is not a run directory, or its config cannot be read.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.is_file():
        what = f"has no {CONFIG_FILE}" if path.parent.is_dir() else "does not exist"
        raise ValueError(
            f"workdir = {str(workdir)!r}: {what}, so it is not a run directory; train into it first"
        )
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"workdir = {str(workdir)!r}: {CONFIG_FILE} is not JSON: {error}"
        ) from None
    if not isinstance(config, dict):
        raise ValueError(f"workdir = {str(workdir)!r}: {CONFIG_FILE} is not the config of a run")
    return config


def _refuse_other_config(
    workdir: Path,
    config: Mapping[str, Any],
    ignored: Sequence[str],
    usual: Mapping[str, Any],
) -> None:
    there = dict(_flat(read_config(workdir)))
    here = dict(_flat(atomic.plain(config)))
    if usual and "schema" not in there:
        for name, value in _flat(atomic.plain(usual)):
            if there.get(name) is None and name in here:
                there[name] = value
    names = sorted(there.keys() | here.keys())
    differing = [
        name
        for name in names
        if there.get(name, _ABSENT) != here.get(name, _ABSENT)
        and not any(name == field or name.startswith(f"{field}.") for field in ignored)
    ]
    if not differing:
        return
    shown = [
        f"{name} = {_shown(there, name)} there, {_shown(here, name)} here"
        for name in differing[:_SHOWN]
    ]
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ValueError(
        f"workdir = {str(workdir)!r}: belongs to another config ({'; '.join(shown)}{more}); "
        "give another workdir, or delete that one to begin anew"
    )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; an empty group is a value of its own."""
    if not isinstance(value, dict) or (not value and prefix):
        yield prefix, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{prefix}.{key}" if prefix else key)


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else _ABSENT
