"""The config of an evaluation: a run's own, with what an evaluation may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from rbjax.config.schema import Config, ConfigError, default

_FREE_TO_CHANGE = (
    "task",
    "workdir",
    "data_dir",
    "batch_size",
    "attacks",
    "corruptions",
    "score",
    "diagnostics",
)
_OF_THE_TEST_SET = ("dataset.max_test_examples", "dataset.test_on", "dataset.path")
"""One's own data may have moved: a fingerprint says whether they are the same."""


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
        The run's config, with task, paths, batch size, attacks, corruptions, score, diagnostics,
        `dataset.max_test_examples`, `dataset.test_on` and `dataset.path` as given.

    Raises:
        ConfigError: if another field is given, and given differently than the run has it.
    """
    typed, defaults = set(typed), default().to_dict()
    theirs, ours, usual = (dict(_flat(config)) for config in (run, given, defaults))
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in run.items()}
    for key in _FREE_TO_CHANGE:
        if given[key] != defaults[key] or key in typed or key not in run:
            merged[key] = given[key]
    mistakes = []
    for name, value in ours.items():
        if name.split(".")[0] in _FREE_TO_CHANGE or (
            name not in typed and value == usual.get(name)
        ):
            continue
        if name in _OF_THE_TEST_SET:
            merged["dataset"][name.removeprefix("dataset.")] = value
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
    read: Config = config_dict.ConfigDict(_with_tuples(run))
    return read.lock()


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values, tuples as the lists that JSON makes of them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", entry) for name, entry in _flat(value))
        else:
            yield key, list(value) if isinstance(value, tuple) else value
