"""Docstrings' examples: what they show is what comes out, and every function of arrays has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rbjax

API = Path(__file__).parents[1] / "docs" / "api.md"
NAMES = {"jax": jax, "jnp": jnp, "np": np, "rbjax": rbjax}
"""What an example need not import."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields what docs/api.md lists that is called: `module.name`, and the function, each once."""
    seen = set()
    for module in re.findall(r"^api/(\S+)$", API.read_text(encoding="utf-8"), re.MULTILINE):
        own = rbjax.FUNCTIONS if module == "rbjax" else ()
        for name in getattr(importlib.import_module(module), "__all__", own):
            function = getattr(importlib.import_module(module), name)
            if inspect.isfunction(function) and id(function) not in seen:
                seen.add(id(function))
                yield f"{module}.{name}", function


def takes_arrays(function: Callable[..., Any]) -> bool:
    """Returns whether an argument of a function is an array."""
    parameters = inspect.signature(function).parameters.values()
    return any(re.search(r"Array|ndarray", str(one.annotation)) for one in parameters)


FUNCTIONS = dict(public())


def test_every_function_that_takes_arrays_has_an_example():
    taking = {name for name, function in FUNCTIONS.items() if takes_arrays(function)}
    assert len(taking) > 50
    lacking = [name for name in taking if ">>>" not in (FUNCTIONS[name].__doc__ or "")]
    assert not lacking


@pytest.mark.parametrize("module", sorted({name.rsplit(".", 1)[0] for name in FUNCTIONS}))
def test_examples_show_what_comes_out(module: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    parser, said = doctest.DocTestParser(), []
    for name, function in FUNCTIONS.items():
        if name.rsplit(".", 1)[0] == module and ">>>" in (function.__doc__ or ""):
            example = parser.get_doctest(function.__doc__ or "", dict(NAMES), name, None, None)
            runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
