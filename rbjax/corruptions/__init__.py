"""Common corruptions: those of ImageNet-C, CIFAR-10-C, Tiny ImageNet-C and MNIST-C, on one image.

A corruption is a perturbation, (key, image) -> image with values in [0, 1]: `create` makes it by
name at a severity of a profile; `jax.vmap` applies it to a batch. Images may have any height and
width of at least 8 and any number of channels; the constants stay the profile's.

A new one is a function `(key, image, *, <its constants>)` in a file of its kind, a line in
`CORRUPTIONS` (`table.py`) and its numbers in `constants.py`, or a maker `(*, severity, ...)`; the
contract suite and `run_corruptions` then cover it.

`run_corruptions` classifies a dataset under all of them.
"""

from rbjax.corruptions.constants import COMMON, CONSTANTS, EXTRA, MNIST_C, PROFILES
from rbjax.corruptions.suite import CorruptionResult, published, run_corruptions
from rbjax.corruptions.table import (
    CORRUPTIONS,
    Corruption,
    create,
    default_severity,
    is_by_severity,
    names,
    severities,
)
from rbjax.progress import Progress, progress_bar

__all__ = [
    "COMMON",
    "CONSTANTS",
    "CORRUPTIONS",
    "EXTRA",
    "MNIST_C",
    "PROFILES",
    "Corruption",
    "CorruptionResult",
    "Progress",
    "create",
    "default_severity",
    "is_by_severity",
    "names",
    "progress_bar",
    "published",
    "run_corruptions",
    "severities",
]
