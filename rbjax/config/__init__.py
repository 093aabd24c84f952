"""The config: one schema for every run.

`default()` gives a config with every field, which the files in `configs/` change; `resolve()`
validates all of it at once and fills in what was left absent.  `fields.py` says what each field is.
"""

from __future__ import annotations

from rbjax.config.fields import ATTACK, GROUPS, TOP, Field
from rbjax.config.numbers import parse_fraction, parse_optional_fraction
from rbjax.config.schema import ConfigError, attack, default, describe, of_run, resolve, vary
from rbjax.tables import nearest

__all__ = [
    "ATTACK",
    "GROUPS",
    "TOP",
    "ConfigError",
    "Field",
    "attack",
    "default",
    "describe",
    "nearest",
    "of_run",
    "parse_fraction",
    "parse_optional_fraction",
    "resolve",
    "vary",
]
