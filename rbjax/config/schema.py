"""Making a config, and checking one: all mistakes together, each with what is allowed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ml_collections import config_dict

from rbjax.config import catalog, together
from rbjax.config.field import Field, Group
from rbjax.config.fields import ATTACKS, GROUPS, TOP
from rbjax.config.numbers import parse_fraction
from rbjax.errors import spelled
from rbjax.options import Option
from rbjax.tables import is_path, nearest

Config = Any
"""A `ConfigDict`; what its attributes are is known to the schema, not to a type checker."""

Names = Mapping[str, Iterable[str]]
"""The known names of some groups, in place of those of their tables: {"corruptions": (...)}."""

VERSION = 1
"""Of the schema; a run's config says which one wrote it, and one that says nothing is version 0."""


class ConfigError(ValueError):
    """What is wrong with a config, one line a mistake."""


def default() -> Config:
    """Returns a config with every field: its default, or None where it is absent.

    Returns:
        An unlocked ConfigDict with the groups of `fields.GROUPS` and an empty `attacks`.
    """
    config: Config = config_dict.ConfigDict()
    for name, field in TOP.items():
        config[name] = _initial(field)
    for name, group in GROUPS.items():
        fields = {k: _initial(f) for k, f in group.own.items()}
        options = {k: _absent(f) for k, f in group.every().items() if k not in fields}
        config[name] = config_dict.ConfigDict({**fields, **options})
    config.attacks = config_dict.ConfigDict()
    return config


def attack(name: str, **fields: Any) -> Config:
    """Returns the config of one attack, for `config.attacks.<label>`.

    Args:
        name: the attack, for example "pgd".
        **fields: its fields; those not given stay absent.

    Returns:
        A ConfigDict with every field of an attack.

    Raises:
        ConfigError: if a field is unknown.
    """
    known = {**ATTACKS.every(), **ATTACKS.applying(name)}
    unknown = set(fields) - set(known)
    if unknown:
        raise ConfigError(_unknown(f"attack {name}", sorted(unknown)[0], known))
    group: Config = config_dict.ConfigDict({key: _absent(field) for key, field in known.items()})
    group.update(name=name, **fields)
    return group


def open_up(group: Config, schema_of: Group, name: str) -> None:
    """Adds to a group of a config, in place, the fields of what it is to name, each absent.

    Args:
        group: a group of a config, or one of its attacks.
        schema_of: its schema.
        name: the name it is given; a maker outside has options that no other has.

    Raises:
        ValueError: if there is no such maker.
    """
    for key, field in schema_of.applying(name).items():
        if key not in schema_of.own and group.get(key) is None:
            if key in group:  # of another thing, perhaps of another type
                del group[key]
            group[key] = _absent(field)


def vary(
    config: config_dict.ConfigDict,
    variant: str,
    **variants: Callable[[config_dict.ConfigDict], None],
) -> Config:
    """Applies the variant asked for by `--config=<file>:<variant>`.

    Args:
        config: the config, changed in place.
        variant: its name, or "" for the config as it is.
        **variants: what each variant changes.

    Returns:
        The config.

    Raises:
        ConfigError: if there is no such variant.
    """
    if variant and variant not in variants:
        allowed = ", ".join(variants)
        raise ConfigError(
            f"variant {variant!r} is unknown; allowed: {allowed}{nearest(variant, variants)}"
        )
    if variant:
        variants[variant](config)
    return config


def resolve(
    config: Mapping[str, Any], names: Names | None = None, *, emptied: Collection[str] = ()
) -> Config:
    """Checks a whole config and fills in what is absent.

    Args:
        config: as `default()` makes it; of a plain dict, missing fields count as absent.
        names: the known names of groups, of "attack" and "perturbation"; None: the tables'.
        emptied: dotted names of fields that are None on purpose, where their maker allows it.

    Returns:
        A new, locked config: every field that applies has a value (optional ones may be None);
        those that do not apply are gone.

    Raises:
        ConfigError: listing every mistake.
    """
    given = config.to_dict() if isinstance(config, config_dict.ConfigDict) else dict(config)
    own = [*TOP, *GROUPS, "attacks"]
    mistakes = [_unknown("", name, own) for name in given if name not in own]
    resolved = _resolve_group("", Group(TOP), given, None, mistakes)
    names = names or {}
    for name, group in GROUPS.items():
        values = given.get(name) or {}
        if group.kind is None:
            resolved[name] = _resolve_group(name, group, values, None, mistakes)
        else:
            known = names.get(name if group.selector == "name" else group.selector)
            resolved[name] = _resolve_named(name, group, values, known, mistakes)
    together.check_ball("method", resolved["method"], mistakes)
    # An attack has the ball the model was trained for, unless it names another norm or size.
    method_is_wrong = any(mistake.startswith("method.") for mistake in mistakes)
    ball = (
        None
        if method_is_wrong
        else {k: resolved["method"][k] for k in ("epsilon", "norm") if k in resolved["method"]}
    )
    resolved["attacks"] = {
        label: _resolve_attack(f"attacks.{label}", value, ball, names.get("attack"), mistakes)
        for label, value in (given.get("attacks") or {}).items()
    }
    together.complete(resolved, {} if method_is_wrong else together.method_ball(resolved["method"]))
    together.check(resolved, mistakes)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    for name in emptied:
        *path, key = name.split(".")
        values = functools.reduce(lambda node, part: node[part], path, resolved)
        schema_of = ATTACKS if path[:1] == ["attacks"] else GROUPS.get(path[0] if path else "")
        options = schema_of.options(values.get(schema_of.selector)) if schema_of else {}
        if key in options and _may_be_emptied(options[key]):
            values[key] = None
    return config_dict.ConfigDict(resolved).lock()


def format_config(config: Config) -> str:
    """Returns a resolved config as text, a line a group; what is absent is left out."""
    fields = config.to_dict()
    groups = {"": {k: v for k, v in fields.items() if not isinstance(v, dict)}}
    groups |= {k: v for k, v in fields.items() if isinstance(v, dict) and k != "attacks"}
    groups |= {f"attacks.{label}": group for label, group in fields["attacks"].items()}
    lines = []
    for name, group in groups.items():
        shown = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in group.items()}
        values = [f"{k}={v}" for k, v in shown.items() if v is not None]
        lines.append(f"{name:<16} {'  '.join(values)}".strip())
    return "\n".join(lines)


def makers_options(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those fields of a resolved group that are options of what it names, but absent ones.

    Args:
        group: its name, "attacks" for one of the attacks.
        values: the group.
    """
    schema = ATTACKS if group == "attacks" else GROUPS[group]
    options = schema.options(values[schema.selector])
    return {
        key: values[key]
        for key, option in options.items()
        if values.get(key) is not None or (key in values and _may_be_emptied(option))
    }


def _may_be_emptied(option: Option) -> bool:
    """Returns whether None means another thing than leaving it out."""
    return option.optional and option.default is not None


def _initial(field: Field) -> Any:
    return _absent(field) if field.default is None or field.where is not None else field.default


def _absent(field: Option) -> Any:
    return config_dict.placeholder(field.kind)


def _unknown(where: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    where = f"{where}: " if where else ""
    return f"{where}unknown field {name!r}{nearest(name, known)} (known: {', '.join(known)})"


def _resolve_named(
    where: str,
    group: Group,
    given: Mapping[str, Any],
    known: Iterable[str] | None,
    mistakes: list[str],
) -> dict[str, Any]:
    """Resolves a group whose fields depend on the name it gives."""
    selector = group.own[group.selector]
    if known is None:
        known = (*selector.words, *catalog.entries(group.kind or ""))
    known = list(known)
    value = given.get(group.selector)
    value = selector.default if value is None else value
    several = selector.several and isinstance(value, str)
    names = tuple(value.split("+")) if several else (value,)
    wrong = len(mistakes)
    for name in names:
        which = f"{name!r} is unknown" if len(names) > 1 else "unknown"
        if name not in known and not (isinstance(name, str) and is_path(name)):
            hint = f"allowed: {', '.join(known)}{nearest(name, known)}"
            mistakes.append(f"{where}.{group.selector} = {spelled(value)}: {which}; {hint}")
        elif name not in known:
            try:
                group.entries(name)
            except ValueError as error:
                mistakes.append(f"{where}.{group.selector}: {error}")
    return {} if len(mistakes) > wrong else _resolve_group(where, group, given, value, mistakes)


def _resolve_group(
    where: str, group: Group, given: Mapping[str, Any], name: Any, mistakes: list[str]
) -> dict[str, Any]:
    prefix = f"{where}." if where else ""
    fields = group.applying(name)
    if where:
        known = {**group.every(), **fields}
        mistakes += [_unknown(where, key, known) for key in given if key not in known]
        mistakes += [
            f"{prefix}{key} = {spelled(value)}: not a field of {name!r} (its fields: "
            f"{', '.join(fields)}); leave it out, or --config.{prefix}{key}=none"
            for key, value in given.items()
            if key in known and key not in fields and value is not None
        ]
    resolved: dict[str, Any] = {}
    for key, field in fields.items():
        value = given.get(key)
        if value is not None:
            resolved[key], mistake = _checked(value, field)
            if mistake:
                mistakes.append(f"{prefix}{key} = {spelled(value)}: {mistake}")
            continue
        resolved[key] = field.default
        emptied = key in given and key in group.own and field.where is None
        if (field.default is None or emptied) and not field.optional:
            meaning = field.meaning or f"required by {name}"
            mistakes.append(f"{prefix}{key} is missing: {meaning}")
    return resolved


def _checked(value: Any, field: Field) -> tuple[Any, str]:
    """Returns the value in the field's type, and what is wrong with it or ""."""
    if field.kind is float and isinstance(value, str):
        try:
            value = parse_fraction(value)
        except ValueError as error:
            return value, str(error)
    if field.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # 2.0 is typed, and read from JSON, as a float
    value, words = field.check(value)
    if words:
        unit = f" ({field.unit})" if field.unit else ""
        return value, f"must be {words}{unit}: {field.meaning}"
    return value, field.choice_of(value)


def _resolve_attack(
    where: str,
    given: Mapping[str, Any],
    ball: Mapping[str, Any] | None,
    known: Iterable[str] | None,
    mistakes: list[str],
) -> dict[str, Any]:
    """Resolves an attack, which has the method's norm, and its epsilon where that is the same.

    Without a method's, epsilon is what the attack's maker says, or 8/255 in linf; in other
    norms there is no usual one.

    Args:
        where: its place, for the messages.
        given: its fields.
        ball: the method's epsilon and norm, where it has them; None if they are wrong.
        known: names of attacks; None: all of the table.
        mistakes: added to.
    """
    given = {key: value for key, value in given.items() if value is not None}
    try:
        options = ATTACKS.options(given.get("name"))
    except ValueError:
        options = {}
    theirs, usual = (ball or {}).get("norm"), None
    if "norm" in options:
        given = {"norm": theirs, **given} if theirs else given
        norm = given.get("norm", options["norm"].default)
    else:
        norm = together.norm_of(options) or theirs or "linf"
    if "epsilon" in options and "epsilon" not in given:
        usual = ball["epsilon"] if ball and norm == theirs else options["epsilon"].default
        usual = 8 / 255 if usual is None and norm == "linf" else usual
        if usual is not None:
            given = {"epsilon": usual, **given}
        elif ball is not None:
            mistakes.append(f"{where}.epsilon is missing: there is no usual one in {norm}")
    before = len(mistakes)
    resolved = _resolve_named(where, ATTACKS, given, known, mistakes)
    missing = f"{where}.epsilon is missing: "
    if "epsilon" in options and usual is None:  # said above, or the method's mistake is
        mistakes[before:] = [line for line in mistakes[before:] if not line.startswith(missing)]
    return resolved
