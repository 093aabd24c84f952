"""rbjax: what robustness and dataset bias do to each other, class by class.

Submodules are imported when they are first used, so that `import rbjax` is quick.
"""

import importlib
import types

__version__ = "0.1.0"

_SUBMODULES = (
    "analysis",
    "attacks",
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
    "training",
    "typing",
)


def __getattr__(name: str) -> types.ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"rbjax.{name}")
    raise AttributeError(f"module 'rbjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_SUBMODULES, "__version__"]
