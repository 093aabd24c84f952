"""The config: one schema for every run.

`default()` gives a config with every field, which the files in `configs/` change; `resolve()`
validates all of it at once and fills in what was left absent.  `fields.py` says what each field is.
"""

from rbjax.config.attacks import ATTACK, NO_OPTIONS
from rbjax.config.fields import GROUPS, TOP, Field
from rbjax.config.merge import of_run, stored
from rbjax.config.numbers import parse_fraction
from rbjax.config.schema import (
    Config,
    ConfigError,
    attack,
    default,
    describe,
    format_config,
    resolve,
    vary,
)

__all__ = [
    "ATTACK",
    "GROUPS",
    "NO_OPTIONS",
    "TOP",
    "Config",
    "ConfigError",
    "Field",
    "attack",
    "default",
    "describe",
    "format_config",
    "of_run",
    "parse_fraction",
    "resolve",
    "stored",
    "vary",
]
