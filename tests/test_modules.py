"""Flax modules that are made anew are one function, and what is bound to variables is not."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax.classifier import as_classifier
from rbjax.modules import one_of_equals


class Net(nn.Module):
    num_classes: int = 3
    about: Any = None

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


IMAGES = jnp.linspace(0, 1, 8).reshape(2, 2, 2, 1)


def variables(seed):
    return Net().init(jax.random.key(seed), IMAGES)


def test_equal_modules_are_one_function():
    first = one_of_equals(Net(3, "known here").apply)
    assert one_of_equals(Net(3, "known here").apply) is first
    assert one_of_equals(Net(4, "known here").apply) is not first


def test_what_is_no_module_or_not_known_by_its_fields_stays_as_it_is():
    bound, unhashable = Net().bind(variables(0)), Net(3, [1])
    for function in (len, bound.apply, bound.__call__, unhashable.apply, Net().init):
        assert one_of_equals(function) is function


def test_new_modules_with_new_weights_are_not_compiled_again():
    """And answer with their own weights."""
    traced = []

    @jax.jit
    def logits(model):
        traced.append(1)
        return model.logits(None, IMAGES)

    for seed in range(3):
        own = variables(seed)
        model = as_classifier(Partial(Net().apply, own))
        expected: Any = Net().apply(own, IMAGES)
        np.testing.assert_allclose(logits(model), expected, rtol=1e-6)
    assert traced == [1]


def test_a_module_without_its_variables_is_refused():
    net: Any = nn.Dense(3)
    for wrong in (net, net.apply):
        with pytest.raises(ValueError, match=r"give jax.tree_util.Partial\(module.apply, variab"):
            as_classifier(wrong)
    as_classifier(net.bind({"params": {}}))  # which has them
