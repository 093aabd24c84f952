"""The config: one schema for every run.

`default()` gives a config with every field, which the files in `configs/` change; `resolve()`
validates all of it at once and fills in what was left absent.  The options of an attack, a model
and so on are those of its maker; `fields.py` says what the groups' own fields are.
"""

from rbjax.config.describe import describe, describe_kind, listing, plural
from rbjax.config.field import Field, Group
from rbjax.config.fields import ATTACKS, GROUPS, TOP
from rbjax.config.merge import affecting, flat, of_run, stamped, stored, unaffecting_weights, usual
from rbjax.config.numbers import parse_fraction
from rbjax.config.schema import (
    Config,
    ConfigError,
    attack,
    default,
    format_config,
    makers_options,
    open_up,
    resolve,
    vary,
)
from rbjax.config.together import holds_out

__all__ = [
    "ATTACKS",
    "GROUPS",
    "TOP",
    "Config",
    "ConfigError",
    "Field",
    "Group",
    "affecting",
    "attack",
    "default",
    "describe",
    "describe_kind",
    "flat",
    "format_config",
    "holds_out",
    "listing",
    "makers_options",
    "of_run",
    "open_up",
    "parse_fraction",
    "plural",
    "resolve",
    "stamped",
    "stored",
    "unaffecting_weights",
    "usual",
    "vary",
]
