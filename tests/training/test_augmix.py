"""AugMix training: its loss by hand, and its reductions."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses, methods, models, prng
from rbjax.data.augmix import augmix
from rbjax.losses.consistency import jensen_shannon
from rbjax.methods import MethodState
from tests.training.recipes import (
    BATCH,
    KEY,
    RATE,
    assert_close,
    initial,
    make_recipe,
    make_split,
    run,
)


def test_one_step_by_hand():
    """Three images through the network as one batch, the clean one's cross-entropy, 12 JS."""
    split = make_split()
    labels = jnp.asarray(split[1])
    recipe = make_recipe(methods.augmix(severity=2.0), model_name="normalized")
    images = jnp.asarray(split[0] / np.float32(255))
    keys = prng.per_draw(prng.per_example(prng.named(KEY, "method"), jnp.arange(BATCH)), 0)
    run_augmix = jax.jit(lambda keys: augmix(keys, images, severity=2.0))
    views = [run_augmix(prng.per_draw(keys, draw)) for draw in (0, 1)]
    assert min(np.abs(views[0] - views[1]).max(), np.abs(views[0] - images).max()) > 0.1
    state = initial(recipe)

    def loss(params):
        variables = {**state.variables, "params": params}
        own = prng.split(KEY, 3 * BATCH)
        logits, _ = recipe.model.apply_train(variables, jnp.concatenate([images, *views]), own)
        clean, first, second = jnp.split(logits, 3)
        divergence = jensen_shannon(clean, first, second)
        return jnp.mean(losses.create("cross_entropy")(clean, labels) + 12.0 * divergence)

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.variables["params"])
    after, metrics = run(recipe, split)
    np.testing.assert_allclose(metrics.loss[0], value, rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.variables["params"], gradient)
    assert_close(after.variables["params"], expected)


def test_without_the_divergence_the_network_sees_one_view(monkeypatch):
    given = {}
    module = importlib.import_module("rbjax.methods.augmix")
    monkeypatch.setattr(
        module, "views_of", lambda keys, images, **options: given.update(options) or 1 - images
    )
    options = {"severity": 2.0, "width": 4, "depth": 5, "alpha": 0.5, "all_ops": True}
    method = methods.augmix(jensen_shannon=False, **options)
    images = prng.uniform(KEY, (4, 8, 8, 1))
    seen = method.inputs(lambda x: x, prng.split(KEY, 4), MethodState((), ()), images, jnp.zeros(4))
    np.testing.assert_array_equal(seen, 1 - images)
    assert given == options
    assert method.loss is None


def test_operations_on_colors_are_refused_before_anything_is_run():
    bands = {"image_shape": (4, 4, 11), "mean": (0.5,) * 11, "std": (0.25,) * 11}
    model = models.create("mlp", num_classes=3, widths=(2,), **bands)
    setting = methods.Setting(model, None, None, 8, None)
    with pytest.raises(ValueError, match="all_ops is True and an image has 11 channels"):
        methods.augmix(all_ops=True).init(KEY, setting)
    assert methods.augmix().init(KEY, setting) == ((), ())
