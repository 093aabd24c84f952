"""What a report says of the process that made its numbers: the command, and what it ran on."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path

import rbjax
from rbjax.console import printable

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
_LONGEST = 2000
"""Letters of a command that are kept."""


def command() -> str:
    """Returns the command that runs this process, as it is typed: without folders of programs."""
    program, *rest = sys.orig_argv or [""]
    is_script = bool(rest) and not rest[0].startswith("-") and Path(rest[0]).suffix != ".py"
    if is_script:  # which the interpreter was given, as "rbjax" is when it is installed
        program, *rest = rest
    return printable(shlex.join([Path(program).name, *rest]))[:_LONGEST]


def versions() -> dict[str, str]:
    """Returns the versions of rbjax, Python and the libraries that compute."""
    others = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"rbjax": rbjax.__version__, **others, "Python": platform.python_version()}
