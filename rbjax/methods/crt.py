"""Classifier re-training: a new head on the backbone of a finished run."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rbjax import config as schema
from rbjax.data import Dataset
from rbjax.models import Model
from rbjax.options import checked
from rbjax.training import run_directory, setup
from rbjax.training.method import Method, Prepared
from rbjax.typing import Key


@checked
def crt(*, backbone: str) -> Method:
    """Returns classifier re-training: a new head, trained on the features of a finished run.

    The backbone learns from the data as they are, the head from all classes alike: take the sampler
    `class_aware`, as published, or a loss for long tails.  Backbone and running statistics stay as
    they are, there is no dropout, and the head begins from random weights.

    Args:
        backbone: the run directory, of a model with the same layers; the head may be another.

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
        trained = _trained(backbone)
        _check_layers(backbone, trained, variables, model)
        params = {**trained["params"], "head": variables["params"]["head"]}
        return Prepared(variables={**trained, "params": params})

    return Method(
        prepare=prepare,
        trains=lambda path: path.startswith("head/"),
        batch_norm="eval",
        mixup=True,
    )


def _trained(workdir: str) -> Any:
    """Returns the weights of a run."""
    try:
        run = schema.stored(run_directory.read_config(workdir))
        model = setup.create_model(run, setup.info(run))
        return setup.trained_variables(run, workdir, model)[1]
    except ValueError as error:
        raise ValueError(f"method.backbone: {error}") from None


def _check_layers(workdir: str, trained: Any, variables: Any, model: Model) -> None:
    """Refuses weights of other layers than the model's, the head aside."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        named = {
            jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
            for path, leaf in jax.tree.leaves_with_path(tree)
        }
        return {name: shape for name, shape in named.items() if "params/head/" not in name}

    theirs, ours = shapes(trained), shapes(variables)
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            raise ValueError(
                f"method.backbone = {workdir!r}: has {name} of shape {theirs.get(name)}, model "
                f"{model.name!r} one of {ours.get(name)}; give model.* as that run has it"
            )
