"""Every method with every loss: a step is traced, or refused with the reason."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import command_line, losses, methods
from rbjax import config as schema
from rbjax.testing.training import make_model
from rbjax.train import train
from rbjax.training import trial
from rbjax.training.state import create_state, place
from rbjax.training.step import Recipe, make_train_step
from tests.contracts.test_methods import options

COUNTS = [40, 20, 5]
LOSSES = {
    name: losses.create(
        name,
        class_counts=COUNTS,
        class_weights="none" if name == "class_balanced" else "effective_number",
        start_epoch=0 if name == "class_balanced" else 2,
    )
    for name in losses.LOSSES
}


def trace(method: methods.Method, loss_fn: Any) -> None:
    model, device, size = make_model(), jax.local_devices()[:1], 8
    recipe = Recipe(
        model=model,
        method=method,
        loss_fn=loss_fn,
        optimizer=optax.sgd(0.1),
        augment=lambda key, image: image,
        steps_per_epoch=2,
    )
    state = create_state(
        jax.random.key(0),
        model,
        method,
        recipe.optimizer,
        num_rows=size,
        class_counts=np.array(COUNTS),
    )
    images = jax.ShapeDtypeStruct((size, *model.image_shape), jnp.uint8)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    rows = jax.ShapeDtypeStruct((1, 1, size), jnp.int32)
    step = make_train_step(recipe, jax.random.key(0), devices=device)
    jax.eval_shape(step, place(state, device), images, labels, labels, rows)


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_loss_traces_in_every_method(name):
    """All losses in one trace: a method that has no use for one has none for any."""
    asked = []

    def every(logits, labels, *, epoch=0):
        asked.append(logits.shape)
        made = [losses.at_epoch(loss, epoch)(logits, labels) for loss in LOSSES.values()]
        assert all(values.shape == labels.shape for values in made)
        return sum(made[1:], start=made[0])

    trace(methods.create(name, **options(name)), every)
    assert asked
    assert {shape[1] for shape in asked} == {3}


def config_of(**fields):
    config = schema.default()
    config.model.update(name="mlp", widths=(4,))
    for path, value in fields.items():
        group, field = path.split("__")
        config[group][field] = value
    return config


REFUSED = {
    "mixed images have no one class to set apart": (
        {"loss__name": "ldam", "dataset__mixup_alpha": 0.2},
        r"loss: dataset.mixup_alpha = 0.2: the loss 'ldam' sets an image's one class apart",
    ),
    "sigmoids have no softmax": (
        {"loss__name": "sigmoid_focal", "method__name": "trades"},
        r"loss.name = 'sigmoid_focal': trains a sigmoid .*, and the method 'trades' compares soft",
    ),
    "a scale without a cosine head": (
        {"model__head_scale": 10.0},
        r"model: head_scale is 10: belongs to a cosine head",
    ),
    "a cosine head has no lengths": (
        {"model__head": "cosine", "model__tau_norm": 1.0},
        r"model: tau_norm = 1: needs a linear head, .* a cosine head",
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_go_together_is_refused_before_training(tmp_path, reason):
    fields, message = REFUSED[reason]
    with pytest.raises(ValueError, match=message):
        command_line.resolve(config_of(**fields), str(tmp_path / "run"))


def test_counts_that_adjust_no_logits_are_refused_before_training(tmp_path):
    """Eight images have not ten classes."""
    fields = {"model__logit_adjustment": 1.0, "dataset__max_train_examples": 8}
    config = config_of(**fields)
    config.batch_size, workdir = 8, tmp_path / "run"
    with pytest.raises(ValueError, match=r"model.logit_adjustment = 1: class_counts is 0 for cl"):
        train(command_line.resolve(config, str(workdir)), str(workdir))
    assert not workdir.exists()


def test_a_method_that_does_not_use_the_configs_loss_is_named(tmp_path):
    def own(seen):
        return -jax.nn.log_softmax(seen.outputs.logits)[jnp.arange(len(seen.labels)), seen.labels]

    config = command_line.resolve(config_of(loss__name="ldam", method__name="pgd"), str(tmp_path))
    method = methods.create("pgd", epsilon=0.1, num_steps=1)
    for used, loss in ((True, None), (False, own)):
        recipe, state, train_set = trial_parts(config, method._replace(loss=loss))
        if used:
            trial.step(config, recipe, state, train_set)
            continue
        with pytest.raises(ValueError, match=r"loss.name = 'ldam': the method 'pgd' has a loss of"):
            trial.step(config, recipe, state, train_set)
        plain = command_line.resolve(config_of(method__name="pgd"), str(tmp_path))
        trial.step(plain, recipe, state, train_set)


def trial_parts(config, method):
    from rbjax.training import setup
    from rbjax.training.beginning import begin

    train_set = setup.load_train(config)[0]
    model = setup.create_model(config, train_set.info)
    return *begin(config, model, method, 1, train_set), train_set
