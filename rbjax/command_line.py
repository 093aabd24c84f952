"""The command line: from `--config=...` to a checked config and a run directory.

`ml_collections.config_flags` parses; around it stands what makes each mistake one clear line.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_dict, config_flags

from rbjax import config_file, tables
from rbjax.config import (
    ATTACKS,
    GROUPS,
    Config,
    ConfigError,
    attack,
    holds_out,
    of_run,
    open_up,
    parsers,
)
from rbjax.config import resolve as schema_resolve
from rbjax.paths import expanded
from rbjax.tables import is_path, nearest


class Command(NamedTuple):
    """What was typed."""

    config: Config
    """As given, not yet resolved."""
    workdir: str
    typed: tuple[str, ...]
    """Dotted names of the fields that were given one by one."""
    dry_run: bool = False
    """Whether only to say what it would do."""


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
    file, variant, others = config_file.split(argv[1:])
    config = config_file.load(file, variant)
    default = str(Path("runs") / Path(file).stem) + (f"_{variant}" if variant else "")
    run = _run_to_evaluate(config, others, default)
    _open_up(config, others, run)
    _check_overrides(config, others)
    for kind in parsers.PARSERS:
        config_flags.register_flag_parser_for_type(kind, parsers.Optional(kind))
    values, arguments = flags.FlagValues(), [argv[0], *others]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    flags.DEFINE_string("workdir", None, "the run directory", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "say what it takes, and stop", flag_values=values)
    rest = values(arguments)[1:]
    if rest:
        raise ConfigError(
            f"argument {rest[0]!r} is not understood; fields are given as "
            "--config.group.field=value (see --help)"
        )
    config: Config = values["config"].value
    _keep_none(config, others, run)
    workdir = str(expanded(values["workdir"].value or config.workdir or default, field="workdir"))
    typed = config_flags.get_override_values(values["config"])
    return Command(config, workdir, tuple(typed), bool(values["dry_run"].value))


def resolve(config: Config, workdir: str, *, typed: Iterable[str] = ()) -> Config:
    """Checks a config against rbjax's tables of names, and that all it names can be made.

    Evaluating takes dataset, model and weights from the run directory: what the config says of
    them must be what the run says, or nothing.  Given weights need no run.

    Args:
        config: as given.
        workdir: the run directory.
        typed: dotted names of the fields that were typed.

    Returns:
        The resolved config.

    Raises:
        ValueError: listing every mistake.
    """
    # The tables bring JAX along, and a typo above should not wait for it.
    from rbjax import platforms
    from rbjax.data import looks
    from rbjax.training import contents, run_directory
    from rbjax.training import given as weights

    for kind in tables.HOMES:
        tables.of_kind(kind)
    names = {"dataset": _dataset_names(str(config.dataset.name))}
    given, typed = _expanded(config.to_dict()), tuple(typed)
    emptied = [name for name in typed if _at(given, name) is None]
    if config.task == "evaluate" and not weights.need_no_run(config, workdir):
        run = run_directory.read_config(workdir)
        given = _expanded(of_run(given, run, workdir, typed=typed))
        _check_makers_of_run(run, given, workdir)
        emptied += [
            f"{group}.{key}"
            for group, values in run.items()
            if isinstance(values, dict) and group in GROUPS
            for key, value in values.items()
            if value is None and given[group].get(key) is None
        ]
    resolved = schema_resolve(given, names, emptied=emptied)
    platforms.check()
    with looks.once():
        contents.tie(resolved)
        _check_parts(resolved)
    return resolved


def _expanded(given: dict[str, Any]) -> dict[str, Any]:
    """Returns a config's values with `~` in its paths as the home folder."""
    nested: list[tuple[str, tuple[str, ...]]] = [
        ("", ("workdir", "data_dir")),
        ("dataset", ("path", "subset", "devkit")),
        ("model", ("weights",)),
        ("corruptions", ("baseline",)),
        *((f"attacks.{label}", ("source",)) for label in given.get("attacks") or {}),
    ]
    for where, names in nested:
        group = _at(given, where) if where else given
        for name in names:
            if isinstance(group, dict) and isinstance(group.get(name), str):
                field = f"{where}.{name}".lstrip(".")
                group[name] = str(expanded(group[name], field=field))
    return given


def _check_makers_of_run(run: Any, given: Any, workdir: str) -> None:
    """Refuses a run whose makers outside are not to be found here."""
    for name, group in GROUPS.items():
        maker = _at(run, f"{name}.{group.selector}")
        if maker is None or _at(given, f"{name}.{group.selector}") != maker:
            continue
        try:
            group.entries(maker)
        except ValueError as error:
            raise ConfigError(
                f"{name}.{group.selector}: {error}; the config of the run in {workdir} names it: "
                "start from the folder that holds it, or set PYTHONPATH"
            ) from None


def _at(config: Any, path: str) -> Any:
    """Returns a field by its dotted name, None where there is none."""

    def inside(node: Any, part: str) -> Any:
        return node.get(part) if isinstance(node, Mapping | config_dict.ConfigDict) else None

    return functools.reduce(inside, path.split("."), config)


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


def _check_parts(config: Config) -> None:
    """Makes whatever can be made without data, so that it does not fail after hours of training."""
    import jax

    from rbjax import attack_setup, corruption_setup, prng
    from rbjax.training import setup, trial
    from rbjax.training.writers import create_writers

    info = setup.info(config)
    image = jax.ShapeDtypeStruct(info.image_shape, "float32")
    parts: dict[str, Callable[[], object]] = {
        "dataset.name": lambda: trial.splits(config, info),
        "dataset": lambda: jax.eval_shape(setup.create_augment(config, info), prng.key(0), image),
        "model": lambda: trial.model(config, info),
        "method": functools.partial(_check_method, config),
        "loss": lambda: trial.loss(config, info),
        "sampler": lambda: setup.create_sampler(config),
        "schedule": lambda: trial.schedule(config),
        "optimizer": lambda: trial.optimizer(config),
        "score": lambda: trial.perturbation(config, info),
    }
    parts["writers"] = lambda: create_writers(
        config.writers.name, **setup.options(config, "writers")
    )
    parts["corruptions"] = lambda: corruption_setup.create(config, info)
    for label, group in config.attacks.items():
        parts[f"attacks.{label}"] = functools.partial(
            attack_setup.check, group, info, has_validation=holds_out(config.dataset)
        )
    mistakes = []
    for where, make in parts.items():
        try:
            make()
        except ValueError as error:
            mistakes.append(f"{where}: {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def _check_method(config: Config) -> None:
    """Makes the training method, and refuses data and losses that do not go with it."""
    from rbjax import methods
    from rbjax.training import setup

    name, dataset = config.method.name, config.dataset
    options = setup.options(config, "method")
    method = methods.create(name, **options)
    warmup = config.method.get("warmup_epochs")
    if warmup is not None and warmup >= config.num_epochs:
        raise ValueError(
            f"warmup_epochs = {warmup}: must be below num_epochs = {config.num_epochs}, or what "
            f"{name} does after them would never begin"
        )
    methods.check_mixup(method, name, dataset.mixup_alpha)
    methods.check_sampler(method, name, config.sampler.name)
    averaged = config.optimizer.ema_decay is not None
    methods.check_validation(method, name, float(holds_out(dataset)), averaged=averaged)
    methods.check_average(method, name, options, averaged=averaged, num_epochs=config.num_epochs)
    methods.check_loss(method, name, config.loss.name)


def _open_up(config: Config, arguments: Sequence[str], run: Mapping[str, Any]) -> None:
    """Adds new attacks, and fields of makers outside that the config, command line or run names.

    Args:
        config: changed in place.
        arguments: what was typed.
        run: the config of the run that is evaluated; {} where none is.

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
        theirs, name = _at(run, path), typed.get(path, values.get(schema_of.selector))
        theirs = theirs if isinstance(theirs, str) else None  # of a damaged config
        for maker in dict.fromkeys((theirs, name) if path not in typed else (name,)):
            if not (isinstance(maker, str) and is_path(maker)):
                continue
            try:
                open_up(values, schema_of, maker)
            except ValueError as error:
                if maker == name:
                    raise ConfigError(f"{path}: {error}") from None


def _keep_none(config: Config, arguments: Sequence[str], run: Mapping[str, Any]) -> None:
    """Puts back the text "none" that was typed, where it is what the option says or any text."""
    for path, value in _typed(arguments):
        *groups, key = path.split(".")
        first = groups[0] if groups else ""
        schema_of = ATTACKS if first == "attacks" else GROUPS.get(first)
        if value.lower() != "none" or schema_of is None:
            continue
        values = functools.reduce(lambda node, part: node[part], groups, config)
        maker = _at(run, ".".join([*groups, schema_of.selector])) or values.get(schema_of.selector)
        option, own = schema_of.options(maker).get(key), schema_of.own.get(key)
        if own is not None and "none" in (*(own.choices or ()), *own.words):
            values[key] = value
        elif option is None or option.kind is not str or option.optional:
            continue
        elif option.choices is None or "none" in option.choices:
            values[key] = value


def _run_to_evaluate(config: Config, arguments: Sequence[str], default: str) -> dict[str, Any]:
    """Returns the config of the run to evaluate, {} where there is none: that is said later.

    Args:
        config: as in its file.
        arguments: what was typed.
        default: the run directory where neither names one.
    """
    typed = dict(_typed(arguments))
    if typed.get("task", config.get("task")) != "evaluate":
        return {}
    options = [a.partition("=")[2] for a in arguments if a.lstrip("-").startswith("workdir=")]
    options += [b for a, b in itertools.pairwise(arguments) if a in ("--workdir", "-workdir")]
    workdir = (options or [typed.get("workdir") or config.get("workdir") or default])[-1]
    from rbjax import atomic  # NumPy takes as long to import as all else that a typo needs

    try:
        file = expanded(workdir, field="workdir") / "config.json"
        run = atomic.read_json(file)
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


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
            if where == "attacks" and path.count(".") == 2:
                return [
                    f"--config.{path}: there is no attack {part!r}{nearest(part, known)}; to add "
                    f"it, give --config.attacks.{part}.name=NAME too"
                ]
            inside = f" in {where}" if where else ""
            return [
                f"--config.{path}: no field {part!r}{inside}{nearest(part, known)} "
                f"(known: {', '.join(known) or 'none'})"
            ]
        node = node[part]
    if isinstance(node, config_dict.ConfigDict):
        return [f"--config.{path}: a group; give one of its fields ({', '.join(node.keys())})"]
    return []
