"""Config files: `--config=FILE[:VARIANT]`, and the config that the file makes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from rbjax.config import Config, ConfigError
from rbjax.paths import expanded
from rbjax.tables import nearest


def split(arguments: Sequence[str]) -> tuple[str, str, list[str]]:
    """Returns the file and the variant that `--config` names, and the other arguments.

    Raises:
        ConfigError: if there is no `--config`.
    """
    for position, argument in enumerate(arguments):
        name, equals, path = argument.partition("=")
        if name in ("--config", "-config"):
            width = 1 if equals else 2
            path = path or "".join(arguments[position + 1 : position + width])
            others = [*arguments[:position], *arguments[position + width :]]
            return *_file_and_variant(path), others
    found = ", ".join(_configs(Path("configs")))
    raise ConfigError(f"--config=FILE is missing; there are {found or 'no files in configs/'}")


def _file_and_variant(path: str) -> tuple[str, str]:
    """Splits FILE[:VARIANT]; a colon may stand in the file's own path, too.

    The file is the longest path to one; where there is none, a colon of its name ends it.
    """
    path = str(expanded(path, field="--config"))
    colons = [position for position, letter in enumerate(path) if letter == ":"]
    for end in [len(path), *reversed(colons)]:
        if Path(path[:end]).is_file():
            return path[:end], path[end + 1 :]
    folder, slash, name = path.rpartition("/")
    file, colon, variant = name.partition(".py:" if ".py:" in name else ":")
    return folder + slash + file + colon.removesuffix(":"), variant


def _configs(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.glob("*.py") if not file.name.startswith("_"))


def load(file: str, variant: str) -> Config:
    """Runs a config file, so that what is wrong with it is said before absl wraps it."""
    if not Path(file).is_file():
        known = _configs(Path(file).parent) or _configs(Path("configs"))
        raise ConfigError(
            f"--config={file}: no such file (from the current folder); there are "
            f"{', '.join(known) or 'no config files here'}{nearest(file, known)}"
        )
    spec = importlib.util.spec_from_file_location("_rbjax_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"--config={file}: it has no function get_config(variant)")
    return module.get_config(variant)
