"""Making a config, and checking one: all mistakes together, each with what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import config_dict

from rbjax.config.attacks import ATTACK, FIXED_NORM
from rbjax.config.fields import GROUPS, SELECTOR, TOP, Field
from rbjax.config.numbers import parse_fraction
from rbjax.tables import nearest

Config = Any
"""A `ConfigDict`; what its attributes are is known to the schema, not to a type checker."""

Names = Mapping[str, Iterable[str]]
"""The known names of each group: {"model": ("simple_cnn", ...), "attack": (...), ...}."""


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
    for group, fields in GROUPS.items():
        config[group] = config_dict.ConfigDict({k: _initial(f) for k, f in fields.items()})
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
    unknown = set(fields) - set(ATTACK)
    if unknown:
        raise ConfigError(_unknown(f"attack {name}", sorted(unknown)[0], ATTACK))
    group: Config = config_dict.ConfigDict(
        {key: config_dict.placeholder(field.kind) for key, field in ATTACK.items()}
    )
    group.update(name=name, **fields)
    return group


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


def resolve(config: Mapping[str, Any], names: Names) -> Config:
    """Checks a whole config and fills in what is absent.

    Args:
        config: as `default()` makes it; of a plain dict, missing fields count as absent.
        names: the known names of each group, and of "attack" and "perturbation".

    Returns:
        A new, locked config: every field that applies has a value (optional ones may be None);
        those that do not apply are gone.

    Raises:
        ConfigError: listing every mistake.
    """
    given = config.to_dict() if isinstance(config, config_dict.ConfigDict) else dict(config)
    mistakes: list[str] = []
    mistakes += [_unknown("", k, [*TOP, *GROUPS, "attacks"]) for k in _strangers(given)]
    resolved = _resolve_group("", TOP, given, (), mistakes)
    for group, fields in GROUPS.items():
        values, selector = given.get(group) or {}, SELECTOR.get(group, "name")
        if selector not in fields:
            resolved[group] = _resolve_group(group, fields, values, (), mistakes)
            continue
        known = names[group if selector == "name" else selector]
        resolved[group] = _resolve_named(group, fields, values, selector, known, mistakes)
    _check_ball("method", resolved["method"], mistakes)
    # An attack has the ball the model was trained for, unless it names another norm or size.
    method_is_wrong = any(mistake.startswith("method.") for mistake in mistakes)
    ball = (
        None
        if method_is_wrong
        else {k: resolved["method"][k] for k in ("epsilon", "norm") if k in resolved["method"]}
    )
    resolved["attacks"] = {
        label: _resolve_attack(f"attacks.{label}", value, ball, names["attack"], mistakes)
        for label, value in (given.get("attacks") or {}).items()
    }
    _check_together(resolved, mistakes)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return config_dict.ConfigDict(resolved).lock()


_RESERVED = ("clean", "worst", "index", "example_ids", "labels")


def format_config(config: Config) -> str:
    """Returns a resolved config as text, a line a group; what is absent is left out."""
    fields = config.to_dict()
    groups = {"": {k: v for k, v in fields.items() if not isinstance(v, dict)}}
    groups |= {k: v for k, v in fields.items() if isinstance(v, dict) and k != "attacks"}
    groups |= {f"attacks.{label}": group for label, group in fields["attacks"].items()}
    lines = []
    for name, group in groups.items():
        values = [f"{k}={_short(v)}" for k, v in group.items() if v is not None]
        lines.append(f"{name:<16} {'  '.join(values)}".strip())
    return "\n".join(lines)


def describe() -> str:
    """Returns a table of every field: type, default, range and meaning."""
    lines = [_describe("", name, field) for name, field in TOP.items()]
    for group, fields in {**GROUPS, "attacks.<label>": ATTACK}.items():
        lines += ["", *(_describe(f"{group}.", name, field) for name, field in fields.items())]
    return "\n".join(lines)


def _initial(field: Field) -> Any:
    absent = field.default is None or field.only is not None
    return config_dict.placeholder(field.kind) if absent else field.default


def _strangers(given: Mapping[str, Any]) -> list[str]:
    return [key for key in given if key not in TOP and key not in GROUPS and key != "attacks"]


def _unknown(where: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    where = f"{where}: " if where else ""
    return f"{where}unknown field {name!r}{nearest(name, known)} (known: {', '.join(known)})"


def _resolve_named(
    where: str,
    fields: Mapping[str, Field],
    given: Mapping[str, Any],
    selector: str,
    known: Iterable[str],
    mistakes: list[str],
) -> dict[str, Any]:
    """Resolves a group whose fields depend on the name it gives."""
    known = list(known)
    value = given.get(selector)
    value = fields[selector].default if value is None else value
    several = fields[selector].several and isinstance(value, str)
    names = tuple(value.split("+")) if several else (value,)
    strangers = [name for name in names if name not in known]
    for name in strangers:
        hint = f"allowed: {', '.join(known)}{nearest(name, known)}"
        which = f"{name!r} is unknown" if len(names) > 1 else "unknown"
        mistakes.append(f"{where}.{selector} = {value!r}: {which}; {hint}")
    return {} if strangers else _resolve_group(where, fields, given, names, mistakes)


def _resolve_group(
    where: str,
    fields: Mapping[str, Field],
    given: Mapping[str, Any],
    names: tuple[str, ...],
    mistakes: list[str],
) -> dict[str, Any]:
    prefix = f"{where}." if where else ""
    if where:
        mistakes += [_unknown(where, key, fields) for key in given if key not in fields]
    resolved: dict[str, Any] = {}
    for key, field in fields.items():
        value = given.get(key)
        if not _applies(field, names):
            if value is not None:
                mine = ", ".join(k for k, f in fields.items() if _applies(f, names))
                mistakes.append(
                    f"{prefix}{key} = {value!r}: not a field of {'+'.join(names)!r} (its fields: "
                    f"{mine}); leave it out, or --config.{prefix}{key}=none"
                )
            continue
        if value is None:
            resolved[key] = default = field.default_for(names)
            needed = default is None or (key in given and field.only is None)
            if needed and not field.optional:
                mistakes.append(f"{prefix}{key} is missing: {field.meaning}")
            continue
        resolved[key], mistake = _checked(value, field)
        if mistake:
            mistakes.append(f"{prefix}{key} = {value!r}: {mistake}")
    return resolved


def _applies(field: Field, names: tuple[str, ...]) -> bool:
    return field.only is None or not set(names).isdisjoint(field.only)


def _checked(value: Any, field: Field) -> tuple[Any, str]:
    """Returns the value in the field's type, and what is wrong with it or ""."""
    if field.kind is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            value = parse_fraction(value)
        except ValueError as error:
            return value, str(error)
    if field.kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not field.kind:
        return value, f"must be {_article(field)}, it is of type {type(value).__name__}"
    if isinstance(value, tuple) and not all(_is_size(entry) for entry in value):
        return value, "must hold numbers of at least 0, such as (75, 90)"
    if field.choices is not None and value not in field.choices:
        return value, f"allowed: {', '.join(field.choices)}{nearest(str(value), field.choices)}"
    if isinstance(value, int | float) and not _in_range(value, field):
        return value, f"must be {_range(field)}: {field.meaning}"
    return value, ""


def _is_size(entry: Any) -> bool:
    numeric = isinstance(entry, int | float) and not isinstance(entry, bool)
    return numeric and 0 <= entry < math.inf


def _in_range(value: float, field: Field) -> bool:
    return (
        math.isfinite(value)
        and (field.low is None or value >= field.low)
        and (field.high is None or value <= field.high)
        and (field.above is None or value > field.above)
    )


def _article(field: Field) -> str:
    names = {int: "a whole number", float: "a number", str: "text", tuple: "a tuple of numbers"}
    return names.get(field.kind, "true or false")


def _range(field: Field) -> str:
    parts = ["finite"]
    parts += [f"above {field.above:g}"] if field.above is not None else []
    parts += [f"at least {field.low:g}"] if field.low is not None else []
    parts += [f"at most {field.high:g}"] if field.high is not None else []
    return ", ".join(parts) + (f" ({field.unit})" if field.unit else "")


def _check_together(resolved: Mapping[str, Any], mistakes: list[str]) -> None:
    """What one field alone does not show."""
    for label, group in resolved["attacks"].items():
        _check_ball(f"attacks.{label}", group, mistakes, FIXED_NORM.get(group.get("name", "")))
        if label in _RESERVED:
            mistakes.append(
                f"attacks.{label}: {label!r} means something else in reports; rename it"
            )
    if resolved["task"] == "score" and resolved["score"].get("max_steps") == 0:
        mistakes.append("score.max_steps = 0: the task 'score' needs at least 1 draw")
    score = resolved["score"]
    if score.get("repetitions", 1) > 1 and score.get("stop_window") is not None:
        mistakes.append("score.repetitions and score.stop_window: give one of the two")
    if score.get("repetitions", 1) == 1 and score.get("max_width") is not None:
        mistakes.append("score.max_width: needs score.repetitions of 2 or more")
    dataset = resolved["dataset"]
    if dataset.get("subset_digest") is not None and dataset.get("subset") is None:
        mistakes.append("dataset.subset_digest: belongs to dataset.subset, which is not given")
    start, num_epochs = resolved["sampler"].get("start_epoch", 0), resolved.get("num_epochs", 0)
    if isinstance(start, int) and isinstance(num_epochs, int) and start >= max(num_epochs, 1):
        mistakes.append(
            f"sampler.start_epoch = {start}: must be below num_epochs = {num_epochs}, or it would "
            "never begin"
        )
    imbalance = resolved["imbalance"]
    if imbalance.get("decay") is not None and imbalance.get("imbalance_ratio") is not None:
        mistakes.append("imbalance.decay and imbalance.imbalance_ratio: give one of the two")
    schedule = resolved["schedule"]
    if schedule.get("milestones") is not None and schedule.get("epochs_per_step") is not None:
        mistakes.append("schedule.milestones and schedule.epochs_per_step: give one of the two")
    low, high = schedule.get("learning_rate"), schedule.get("max_learning_rate")
    if low is not None and high is not None and high < low:
        mistakes.append(
            f"schedule.max_learning_rate = {high:g}: must be at least schedule.learning_rate "
            f"= {low:g}"
        )


def _resolve_attack(
    where: str,
    given: Mapping[str, Any],
    ball: Mapping[str, Any] | None,
    known: Iterable[str],
    mistakes: list[str],
) -> dict[str, Any]:
    """Resolves an attack, which has the method's norm, and its epsilon where that is the same.

    Args:
        where: its place, for the messages.
        given: its fields.
        ball: the method's epsilon and norm, where it has them; None if they are wrong.
        known: names of attacks.
        mistakes: added to.
    """
    given = {key: value for key, value in given.items() if value is not None}
    own, theirs = FIXED_NORM.get(given.get("name", "")), (ball or {}).get("norm")
    norm = own or given.get("norm", theirs or ATTACK["norm"].default)
    if ball and norm == theirs:
        given = {"epsilon": ball["epsilon"], **given}
    if not own and theirs:
        given = {"norm": norm, **given}
    resolved = _resolve_named(where, ATTACK, given, "name", known, mistakes)
    if ball is not None and norm in ("l2", "l1") and "epsilon" not in given:
        mistakes.append(f"{where}.epsilon is missing: there is no usual one in {norm}")
    return resolved


def _check_ball(
    where: str, group: Mapping[str, Any], mistakes: list[str], norm: str | None = None
) -> None:
    norm = norm or group.get("norm", "linf")
    for name in ("epsilon", "step_size"):
        size = group.get(name)
        if norm == "linf" and isinstance(size, float) and size > 1.0:
            mistakes.append(
                f"{where}.{name} = {size:g}: must be at most 1 in linf, since images are "
                f"in [0, 1]{_as_pixels(size)}"
            )


def _as_pixels(epsilon: float) -> str:
    return f"; did you mean {epsilon:g}/255?" if epsilon <= 255 else ""


def _describe(prefix: str, name: str, field: Field) -> str:
    allowed = "|".join(field.choices) if field.choices else field.kind.__name__
    value = "absent" if field.default is None else _short(field.default)
    notes = [f"in {field.unit}"] if field.unit else []
    bounded = (field.low, field.high, field.above) != (None, None, None)
    notes += [_range(field._replace(unit="")).removeprefix("finite, ")] if bounded else []
    notes += [f"{_short(own)} for {name}" for name, own in field.defaults.items()]
    notes += [f"only {', '.join(field.only)}"] if field.only else []
    tail = f" ({'; '.join(notes)})" if notes else ""
    return f"  {prefix + name:<32} {allowed:<12} {value:<14} {field.meaning}{tail}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
