"""The command line: from `--config=...` to a checked config and a run directory.

`ml_collections.config_flags` parses; around it stands what makes each mistake one clear line.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from ml_collections import config_dict, config_flags

from rbjax import tables
from rbjax.config import (
    ATTACKS,
    GROUPS,
    Config,
    ConfigError,
    attack,
    describe_kind,
    of_run,
    open_up,
    parse_fraction,
    plural,
)
from rbjax.config import resolve as schema_resolve
from rbjax.tables import is_path, nearest

if TYPE_CHECKING:
    from rbjax.data import DatasetInfo


class Command(NamedTuple):
    """What was typed."""

    config: Config
    """As given, not yet resolved."""
    workdir: str
    typed: tuple[str, ...]
    """Dotted names of the fields that were given one by one."""


def parse(argv: Sequence[str]) -> Command:
    """Parses a command line.

    Args:
        argv: the program's name, then its arguments.

    Returns:
        Config, run directory, and which fields were typed.

    Raises:
        ValueError: for whatever was given wrong; each line names it and what is allowed.
        flags.Error: likewise, from absl.
    """
    path, others = _config_path(argv[1:])
    file, _, variant = path.partition(":")
    config = _load(file, variant)
    _open_up(config, others)
    _check_overrides(config, others)
    for kind in _PARSERS:
        config_flags.register_flag_parser_for_type(kind, _Optional(kind))
    values, arguments = flags.FlagValues(), [argv[0], *others]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    flags.DEFINE_string("workdir", None, "the run directory", flag_values=values)
    rest = values(arguments)[1:]
    if rest:
        raise ConfigError(
            f"argument {rest[0]!r} is not understood; fields are given as "
            "--config.group.field=value (see --help)"
        )
    config: Config = values["config"].value
    default = str(Path("runs") / Path(file).stem) + (f"_{variant}" if variant else "")
    workdir = values["workdir"].value or config.workdir or default
    return Command(config, workdir, tuple(config_flags.get_override_values(values["config"])))


def listing(arguments: Sequence[str]) -> str:
    """Returns what `--list=KIND` prints.

    Raises:
        ConfigError: if no kind is given, or something besides.
        ValueError: for an unknown kind.
    """
    kinds = [argument.removeprefix("--list=") for argument in arguments if argument != "--list"]
    if len(kinds) != 1 or len(arguments) != 1:
        known = ", ".join(map(plural, tables.HOMES))
        raise ConfigError(f"--list: give one kind and nothing else, --list=KIND; allowed: {known}")
    return describe_kind(kinds[0])


def resolve(config: Config, workdir: str, *, typed: Iterable[str] = ()) -> Config:
    """Checks a config against rbjax's tables of names, and that all it names can be made.

    Evaluating takes dataset, model and weights from the run directory: what the config says of
    them must be what the run says, or nothing.

    Args:
        config: as given.
        workdir: the run directory.
        typed: dotted names of the fields that were typed.

    Returns:
        The resolved config.

    Raises:
        ValueError: listing every mistake.
    """
    # Imported here: the tables bring JAX along, and a typo above should not wait for it.
    from rbjax.training import run_directory

    for kind in tables.HOMES:
        tables.of_kind(kind)
    names = {"dataset": _dataset_names(str(config.dataset.name))}
    given = config.to_dict()
    if config.task == "evaluate":
        given = of_run(given, run_directory.read_config(workdir), workdir, typed=typed)
    resolved = schema_resolve(given, names)
    _tie_to_subset(resolved)
    _tie_to_own_data(resolved)
    _check_parts(resolved)
    return resolved


def _dataset_names(given: str) -> list[str]:
    """Returns the datasets that can be named: one config of those that have any, if it is asked."""
    from rbjax import data

    known = data.DATASETS.get(given.partition("/")[0])
    if known is not None and "/" in given:
        return [data.info(given).name]
    if known is not None and known.configs:
        return [f"{given}/{config}" for config in known.configs]
    with_configs = {name for name, known in data.DATASETS.items() if known.configs}
    return [name for name in data.custom.CUSTOM.names() if name not in with_configs]


def _tie_to_subset(config: Config) -> None:
    """Fills in the digest of the subset's file: a run directory belongs to what is in it."""
    from rbjax.data import subset

    path, expected = config.dataset.subset, config.dataset.subset_digest
    if path is not None:
        with config.unlocked():
            config.dataset.subset_digest = subset.digest(subset.read_ids(path, expected=expected))


def _tie_to_own_data(config: Config) -> None:
    """Fills in the fingerprint of one's own data, or checks the one that a run has."""
    from rbjax.data import custom
    from rbjax.training import setup

    source = setup.own_data(config)
    if source is None:
        return
    found, expected = custom.fingerprint(source), config.dataset.fingerprint
    if expected not in (None, found):
        raise ConfigError(
            f"dataset.path = {source.path!r}: holds other data than it did, fingerprint {found}, "
            f"not dataset.fingerprint = {expected}; restore them, or train into another workdir"
        )
    with config.unlocked():
        config.dataset.fingerprint = found


def _check_parts(config: Config) -> None:
    """Makes whatever can be made without data, so that it does not fail after hours of training."""
    import jax

    from rbjax import attack_setup, corruption_setup, methods
    from rbjax.training import setup

    info = setup.info(config)
    image = jax.ShapeDtypeStruct(info.image_shape, "float32")
    parts: dict[str, Callable[[], object]] = {
        "dataset.name": lambda: _check_splits(config, info),
        "dataset": lambda: jax.eval_shape(
            setup.create_augment(config, info), jax.random.key(0), image
        ),
        "model": lambda: setup.create_model(config, info),
        "method": lambda: methods.check_mixup(
            methods.create(config.method.name, **setup.options(config, "method")),
            config.method.name,
            config.dataset.mixup_alpha,
        ),
        "loss": lambda: setup.create_loss(config, [1] * info.num_classes),
        "schedule": lambda: setup.create_optimizer(config, steps_per_epoch=100),
        "score": lambda: jax.eval_shape(
            setup.create_perturbation(config), jax.random.key(0), image
        ),
    }
    parts["corruptions"] = lambda: corruption_setup.create(config, info)
    for label, group in config.attacks.items():
        parts[f"attacks.{label}"] = functools.partial(attack_setup.check, group, info)
    mistakes = []
    for where, make in parts.items():
        try:
            make()
        except ValueError as error:
            mistakes.append(f"{where}: {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _check_splits(config: Config, info: DatasetInfo) -> None:
    """Refuses data without a split that is needed after training; of one's own it is read."""
    from rbjax.training import setup

    needed = {"train"} if config.task != "evaluate" else {"test"}
    if config.task == "train":
        needed.add("test")
    if config.task != "evaluate" and config.score.max_steps:
        needed.add(config.score.split)
    if setup.other_test(config) is not None:
        needed.discard("test")
    for split in sorted(needed - set(info.num_examples)):
        if setup.own_data(config) is None:
            raise ValueError(
                f"{info.name} has no split {split!r}, which task = {config.task!r} needs; it has "
                f"{', '.join(list(info.num_examples)[:3])}"
            )
        setup.load(config, split)


def _config_path(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns what `--config` was given, and the other arguments."""
    for position, argument in enumerate(arguments):
        name, equals, path = argument.partition("=")
        if name in ("--config", "-config"):
            width = 1 if equals else 2
            path = path or "".join(arguments[position + 1 : position + width])
            return path, [*arguments[:position], *arguments[position + width :]]
    found = ", ".join(_configs(Path("configs")))
    raise ConfigError(f"--config=FILE is missing; there are {found or 'no files in configs/'}")


def _configs(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.glob("*.py") if not file.name.startswith("_"))


def _load(file: str, variant: str) -> Config:
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


def _open_up(config: Config, arguments: Sequence[str]) -> None:
    """Adds the fields of makers outside that the config or the command line names, and new attacks.

    Raises:
        ValueError: if there is no such maker.
    """
    typed = dict(_typed(arguments))
    for path, name in typed.items():
        group, _, rest = path.partition(".")
        label, _, field = rest.partition(".")
        if group == "attacks" and field == "name" and label and label not in config.attacks:
            config.attacks[label] = attack(name)
    named = [(f"{name}.{group.selector}", config[name], group) for name, group in GROUPS.items()]
    named += [(f"attacks.{k}.name", v, ATTACKS) for k, v in config.attacks.items()]
    for path, values, schema_of in named:
        name = typed.get(path, values.get(schema_of.selector))
        if isinstance(name, str) and is_path(name):
            try:
                open_up(values, schema_of, name)
            except ValueError as error:
                raise ConfigError(f"{path}: {error}") from None


def _typed(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields dotted names and values of the fields that were typed as --config.name=value."""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        path = name.lstrip("-").removeprefix("config.")
        if equals and name.startswith("-") and path != name.lstrip("-"):
            yield path, value


def _check_overrides(config: Config, arguments: Sequence[str]) -> None:
    mistakes = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        path = name.lstrip("-").removeprefix("config.")
        if name.startswith("-") and name.lstrip("-").startswith("config."):
            unknown = _unknown_part(config, path)
            if not unknown and not equals:
                unknown = [f"{name}: write {name}=VALUE"]
            mistakes += unknown
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _unknown_part(config: Config, path: str) -> list[str]:
    """Says what is wrong with the name of a field; [] if it is one."""
    node: Any = config
    for depth, part in enumerate(path.split(".")):
        known = list(node.keys()) if isinstance(node, config_dict.ConfigDict) else []
        if part not in known:
            where = ".".join(path.split(".")[:depth])
            inside = f" in {where}" if where else ""
            return [
                f"--config.{path}: no field {part!r}{inside}{nearest(part, known)} "
                f"(known: {', '.join(known) or 'none'})"
            ]
        node = node[part]
    if isinstance(node, config_dict.ConfigDict):
        return [f"--config.{path}: a group; give one of its fields ({', '.join(node.keys())})"]
    return []


class _Optional(flags.ArgumentParser):
    """A value or "none", which leaves the field absent."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self.syntactic_help = f"{kind.__name__}, or none"

    def parse(self, argument: Any) -> Any:
        if argument is None or str(argument).lower() == "none":
            return None
        if isinstance(argument, self._kind):
            return argument
        return _PARSERS[self._kind](str(argument))

    def flag_type(self) -> str:
        return self._kind.__name__


def _whole(text: str) -> int:
    value = parse_fraction(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _numbers(text: str) -> tuple[float, ...]:
    parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
    values = [parse_fraction(part) for part in parts]
    return tuple(int(value) if value.is_integer() else value for value in values)


_PARSERS: dict[type, Callable[[str], Any]] = {
    float: parse_fraction,
    int: _whole,
    bool: _truth,
    tuple: _numbers,
    str: str,
}
