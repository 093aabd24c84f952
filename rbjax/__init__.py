"""rbjax: what robustness and dataset bias do to each other, class by class.

Submodules are imported when they are first used, so that `import rbjax` is quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBMODULES = (
    "analysis",
    "attacks",
    "auditing",
    "bridges",
    "config",
    "convolution",
    "corruptions",
    "data",
    "evaluate",
    "losses",
    "methods",
    "metrics",
    "models",
    "perturbations",
    "prng",
    "rpr",
    "score",
    "tables",
    "testing",
    "train",
    "trained",
    "training",
    "typing",
)
FUNCTIONS = {
    "audit": "auditing",
    "export": "trained",
    "load": "trained",
    "save": "trained",
    "wrap": "bridges",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"rbjax.{name}")
    if name in FUNCTIONS:
        return getattr(importlib.import_module(f"rbjax.{FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'rbjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_SUBMODULES, *FUNCTIONS, "__version__"]
