"""The config of an evaluation: a run's own, with what an evaluation may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from rbjax.config import together
from rbjax.config.field import Affects, Group
from rbjax.config.fields import ATTACKS, GROUPS, TOP
from rbjax.config.schema import VERSION, Config, ConfigError, default
from rbjax.errors import spelled

STAMPS = ("rbjax", "schema")
"""What a run's config says beside its fields: which rbjax and which version of the schema wrote it.
One that says neither is of version 0."""


def of_run(
    given: Mapping[str, Any],
    run: Mapping[str, Any],
    workdir: str,
    *,
    typed: Iterable[str] = (),
) -> dict[str, Any]:
    """Returns a run's config with what an evaluation may change.

    Args:
        given: the config given, as a plain dict.
        run: the run's own.
        workdir: the run directory, for the message.
        typed: dotted names of the fields that were typed, which count though they say the default.

    Returns:
        The run's config, with whatever does not affect the weights alone as given: the task, paths,
        batch size, attacks, corruptions, score, and what of the test set is used.

    Raises:
        ConfigError: if another field is given, and given differently than the run has it.
    """
    run = _unstamped(run)
    typed, defaults = set(typed), default().to_dict()
    given = dict(given)
    for name, group in given.items():
        if isinstance(group, Mapping):  # without absent fields that only a maker outside has
            own = defaults.get(name, {})
            given[name] = {k: entry for k, entry in group.items() if entry is not None or k in own}
    theirs, ours, usual = (dict(flat(config)) for config in (run, given, defaults))
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in run.items()}
    free = [name for name in (*TOP, *GROUPS, "attacks") if not _is_of_the_run(name)]
    for key in free:
        if given[key] != defaults[key] or key in typed or key not in run:
            merged[key] = given[key]
    mistakes = []
    for name, value in ours.items():
        if name.split(".")[0] in free or (name not in typed and value == usual.get(name)):
            continue
        if name == "model.weights" and theirs.get(name) is None:
            mistakes.append(
                f"{name} = {value!r}: the run in {workdir} has weights of its own; leave the field "
                "out, or give another workdir"
            )
        elif not _is_of_the_run(name):
            group, _, field = name.partition(".")
            merged.setdefault(group, {})[field] = value
        elif value != theirs.get(name):
            mistakes.append(
                f"{name} = {value!r}: the run in {workdir} has {theirs.get(name)!r}, and "
                "evaluating it takes that; leave the field out"
            )
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return merged


def stored(run: Mapping[str, Any]) -> Config:
    """Returns the config of a run directory as it was resolved, read back from JSON.

    Args:
        run: the run's config; JSON has made lists of its tuples.

    Returns:
        A locked ConfigDict.
    """
    read: Config = config_dict.ConfigDict(_with_tuples(_unstamped(run)))
    return read.lock()


def stamped(config: Mapping[str, Any], rbjax_version: str) -> dict[str, Any]:
    """Returns a config as a run directory keeps it, with which rbjax and which schema wrote it."""
    return {**config, "rbjax": rbjax_version, "schema": VERSION}


def usual(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what each field of a resolved config is when it is left out, by group."""
    defaults: dict[str, Any] = {}
    for name, group in GROUPS.items():
        fields = group.applying(config[name].get(group.selector))
        defaults[name] = {key: field.default for key, field in fields.items()}
        defaults[name].pop(group.selector, None)
    together.complete(defaults, together.method_ball(config["method"]))
    return defaults


def unaffecting_weights() -> tuple[str, ...]:
    """Returns the dotted names of fields and groups that leave the trained weights as they are."""
    names = [
        name for name, group in {**GROUPS, "attacks": ATTACKS}.items() if _other(group.affects)
    ]
    names += [name for name, field in TOP.items() if _other(field.affects)]
    for name, group in GROUPS.items():
        names += [f"{name}.{key}" for key, field in group.own.items() if _other(field.affects)]
    return (*names, *STAMPS)


def affecting(what: Affects, group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of a group's own fields that affect the evaluation, say, by name.

    Args:
        what: what they affect.
        group: the group's name.
        values: the group, resolved.
    """
    schema = GROUPS[group]
    return {
        key: values.get(key)
        for key, field in schema.own.items()
        if what in _tuple(field.affects or schema.affects)
    }


def _unstamped(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's config without what wrote it; a later schema's is refused."""
    version = run.get("schema", 0)
    groups = {"attacks": run.get("attacks", {}), **{k: run[k] for k in GROUPS if k in run}}
    groups |= (
        {f"attacks.{k}": v for k, v in dict(groups["attacks"] or {}).items()}
        if isinstance(groups["attacks"], Mapping)
        else {}
    )
    missing = [name for name in ("dataset", "model") if name not in run]
    if missing:
        raise ConfigError(f"the run's config.json is damaged: it has no group {missing[0]!r}")
    for name, group in {"schema": version, **groups}.items():
        is_right = isinstance(group, int) if name == "schema" else isinstance(group, Mapping)
        if not is_right:
            raise ConfigError(f"the run's config.json is damaged: {name} is {spelled(group)}")
    if version > VERSION:
        raise ConfigError(
            f"the run's config has schema {version}, of rbjax {run.get('rbjax')}; this rbjax knows "
            f"those up to {VERSION}: update it"
        )
    return {key: value for key, value in run.items() if key not in STAMPS}


def _is_of_the_run(name: str) -> bool:
    """Whether an evaluation takes a field, or a whole group, from the run: it makes the weights."""
    group, _, key = name.partition(".")
    if group in TOP:
        return _tuple(TOP[group].affects) == ("weights",)
    schema = ATTACKS if group == "attacks" else GROUPS.get(group, Group({}))
    own = schema.own.get(key)
    return _tuple((own and own.affects) or schema.affects) == ("weights",)


def _other(affects: Affects | tuple[Affects, ...] | None) -> bool:
    return "weights" not in _tuple(affects)


def _tuple(affects: Affects | tuple[Affects, ...] | None) -> tuple[Affects, ...]:
    return affects if isinstance(affects, tuple) else (affects or "weights",)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value


def flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values, tuples as the lists that JSON makes of them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", entry) for name, entry in flat(value))
        else:
            yield key, list(value) if isinstance(value, tuple) else value
