"""Classifier re-training: a new head on the backbone of a finished run."""

from __future__ import annotations

import jax.numpy as jnp

from rbjax.data import Dataset
from rbjax.methods.earlier_run import weights_of
from rbjax.models import Model
from rbjax.options import checked
from rbjax.training.method import Method, Prepared
from rbjax.typing import Key


@checked
def crt(*, backbone: str) -> Method:
    """Returns classifier re-training: a new head, trained on the features of a finished run.

    The backbone learns from the data as they are, the head from all classes alike: take the sampler
    `class_aware`, as published, or a loss for long tails.  Backbone and running statistics stay as
    they are, there is no dropout, and the head begins from random weights.

    Args:
        backbone: the run directory, of a model with the same layers, settings and normalisation;
            the head may be another.

    Returns:
        The method; it remembers nothing between steps.

    Source:
        Kang et al. 2020, arXiv:1910.09217, section 4.1: 10 epochs, a cosine from rate 0.2.
    """

    def prepare(key: Key, train_set: Dataset, model: Model) -> Prepared:
        del train_set
        variables = model.init(key, jnp.zeros((1, *model.image_shape)))
        if "head" not in variables["params"]:
            raise ValueError(
                f"crt needs a head to train, and model {model.name!r} gives its logits itself; let "
                "it return features"
            )
        trained = weights_of(backbone, model, field="backbone", besides="head")
        params = {**trained["params"], "head": variables["params"]["head"]}
        return Prepared(variables={**trained, "params": params})

    return Method(
        prepare=prepare,
        trains=lambda path: path.startswith("head/"),
        batch_norm="eval",
        mixup=True,
    )
