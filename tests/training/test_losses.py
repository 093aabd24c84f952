"""Losses in the training step: what the step tells them, and what a config may say of them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, losses, methods
from rbjax import config as schema
from rbjax.training import setup
from tests.training.recipes import assert_close, assert_equal, make_recipe, make_split, run

COUNTS = [90, 30, 3]


def test_deferred_weights_enter_at_their_epoch_and_are_exact_on_resume():
    """Two steps an epoch: the third is the first with weights, wherever the run is taken up."""
    options: dict[str, Any] = {"class_counts": COUNTS, "class_weights": "inverse_frequency"}
    weighted, deferred = (
        make_recipe(methods.Method(), loss_fn=losses.create("ldam", **options, start_epoch=epoch))
        for epoch in (0, 1)
    )
    plain = make_recipe(methods.Method(), loss_fn=losses.create("ldam", class_counts=COUNTS))
    split = make_split()
    two, _ = run(deferred, split, num_steps=2)
    assert_equal(two, run(plain, split, num_steps=2)[0])
    four, metrics = run(deferred, split, num_steps=4)
    taken_up, other = run(deferred, split, state=run(deferred, split, state=two)[0])
    assert_equal(four, taken_up)
    assert_equal(metrics, other)
    from_there, _ = run(weighted, split, state=two)
    assert_equal(from_there, run(deferred, split, state=two)[0])
    differs = np.abs(
        from_there.variables["params"]["head"]["kernel"]
        - run(plain, split, state=two)[0].variables["params"]["head"]["kernel"]
    )
    assert differs.max() > 1e-4
    eight, _ = run(deferred, split, num_steps=4, num_devices=8)
    assert_close(eight.variables, four.variables)


def test_a_margin_is_in_the_units_of_the_models_logits(tmp_path):
    """The scale of a cosine head, 1 without one."""
    for fields, scale in (({}, 1.0), ({"head": "cosine"}, 30.0)):
        config = schema.default()
        config.loss.name = "ldam"
        config.model.update(fields)
        made = setup.create_loss(command_line.resolve(config, str(tmp_path)), [5] * 10)
        expected = losses.ldam([5] * 10, logit_scale=scale)
        logits, labels = jnp.linspace(-3, 3, 20).reshape(2, 10), jnp.array([3, 4])
        np.testing.assert_array_equal(made(logits, labels), expected(logits, labels))


def test_the_config_names_the_class_weights_that_there_are():
    assert schema.GROUPS["loss"].own["class_weights"].choices == losses.CLASS_WEIGHTS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start_epoch": 10}, r"loss: start_epoch = 10: must be below num_epochs = 10"),
        ({"start_epoch": 2}, r"loss: start_epoch = 2: is that of class_weights"),
        ({"class_weights": "inverse"}, r"loss.class_weights = .inverse.: allowed: none, inverse_f"),
        ({"name": "class_balanced", "class_weights": "effective_number"}, r"weighted already"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused_before_training(tmp_path, fields, message):
    config = schema.default()
    config.loss.update(fields)
    with pytest.raises(ValueError, match=message):
        command_line.resolve(config, str(tmp_path / "run"))
