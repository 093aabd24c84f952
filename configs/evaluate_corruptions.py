"""Evaluates a run directory under common corruptions, class by class.

Command: python -m rbjax.main --config=configs/evaluate_corruptions.py --workdir=runs/uat_digits
Dataset, model and weights are the run's own; only `corruptions` is taken from here.  Its images are
corrupted on the fly with the constants of CIFAR-10-C, Tiny ImageNet-C or ImageNet-C, by their size.
With --config.corruptions.baseline=<another run evaluated like this> the report has mCE and relative
mCE too; =alexnet, of ImageNet-C's 15 at all severities, makes it the published mCE.
Variants: `:mnist_c`, MNIST-C's 15; `:smoke`, two corruptions at two severities.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.task = "evaluate"
    config.corruptions.name = "common"
    return schema.vary(config, variant, mnist_c=_mnist_c, smoke=_smoke)


def _mnist_c(config: schema.Config) -> None:
    config.corruptions.name = "mnist_c"


def _smoke(config: schema.Config) -> None:
    config.corruptions.name = "fog+impulse_noise"
    config.corruptions.severities = (1, 5)
