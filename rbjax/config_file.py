"""Config files: `--config=FILE[:VARIANT]`, and the config that the file makes."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Sequence
from pathlib import Path

from ml_collections import config_dict

from rbjax.config import Config, ConfigError, default
from rbjax.errors import a_type
from rbjax.paths import expanded
from rbjax.tables import nearest, reason


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
    found = ", ".join(_configs(Path("configs")) or bundled())
    raise ConfigError(f"--config=FILE is missing; there are {found}")


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


def bundled() -> dict[str, Path]:
    """Returns the configs that come with rbjax, by name: of a wheel, or of the clone."""
    inside = Path(__file__).parent / "configs"
    folder = inside if inside.is_dir() else Path(__file__).parents[1] / "configs"
    return {Path(file).stem: Path(file) for file in _configs(folder)}


def load(file: str, variant: str) -> Config:
    """Runs a config file, so that what is wrong with it is said before absl wraps it.

    One that comes with rbjax may be called by its name, `uat_digits`, or as it lies in the clone.
    """
    file = _there(file)
    spec = importlib.util.spec_from_file_location("_rbjax_config", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, "get_config", None)
        config = made(variant) if callable(made) else None
    except ConfigError:
        raise
    except Exception as error:  # whatever the file does
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == file
        ]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f"{file}, line {line}" if line else file
        raise ConfigError(f"--config={where}: {reason(error)}") from None
    if not callable(made):
        raise ConfigError(f"--config={file}: it has no function get_config(variant)")
    if not isinstance(config, config_dict.ConfigDict):
        raise ConfigError(
            f"--config={file}: get_config returns {a_type(config)}; it must return "
            "rbjax.config.default() with what it changes"
        )
    return _with_groups(config, file)


def _there(file: str) -> str:
    """Returns the path of a config file, one of rbjax's own among them, that is there."""
    path, ours = Path(file), {}
    if path.is_dir() and "/" not in file and file in bundled():
        return str(bundled()[file])  # a copy of the configs may have a folder of the name
    if path.is_dir():
        raise ConfigError(
            f"--config={file}: is a folder, and no config; a run directory is --workdir={file}"
        )
    if not path.is_file() and path.parent in (Path("."), Path("configs")):
        ours = bundled()
        path = ours.get(path.name.removesuffix(".py"), path)
    if path.is_file():
        return str(path)
    there = _configs(path.parent) or _configs(Path("configs"))
    stems = {Path(other).stem for other in there}
    known = [*there, *(name for name in ours if name not in stems)] or list(bundled())
    raise ConfigError(
        f"--config={file}: no such file (from the current folder); there are "
        f"{', '.join(known) or 'no config files here'}{nearest(file, known)}"
    )


def _with_groups(config: Config, file: str) -> Config:
    """Returns a config that has every group, as a group."""
    for name, usual in default().items():
        is_group = isinstance(usual, config_dict.ConfigDict)
        if name not in config or is_group != isinstance(config[name], config_dict.ConfigDict):
            what = "a group of fields" if is_group else "one field"
            raise ConfigError(
                f"--config={file}: {name} is {'missing' if name not in config else 'replaced'}; "
                f"it must be {what}, as rbjax.config.default() has it"
            )
    for label, attack in config.attacks.items():
        if not isinstance(attack, config_dict.ConfigDict):
            raise ConfigError(
                f"--config={file}: attacks.{label} is {a_type(attack)}; it must be what "
                "rbjax.config.attack(name) makes"
            )
    return config
