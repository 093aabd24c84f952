"""What an epoch is validated by: which attack it can afford, and what it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, data, metrics, models, prng, validation
from rbjax import config as schema
from rbjax.data import imbalance
from rbjax.training.method import Method, MethodState
from rbjax.training.state import TrainState
from rbjax.validation import Cost, afford

NUM_IMAGES = 40
"""Four of each class."""


@pytest.mark.parametrize(
    ("num_passes", "num_images", "expected"),
    [
        (11_000, 1000, Cost(1000, 10)),
        (50_000, 1000, Cost(1000, 10)),  # more than it takes
        (10_999, 1000, Cost(999, 10)),  # fewer images at first
        (1_100, 1000, Cost(100, 10)),
        (1_099, 1000, Cost(100, 9)),  # then fewer steps
        (200, 1000, Cost(100, 1)),
        (199, 1000, Cost(99, 1)),  # then fewer images again
        (2, 1000, Cost(1, 1)),
        (1, 1000, None),
        (330, 30, Cost(30, 10)),
        (329, 30, Cost(30, 9)),
    ],
)
def test_fewer_images_then_fewer_steps(num_passes, num_images, expected):
    cost = afford(num_passes, num_images=num_images, num_steps=10)
    assert cost == expected
    if cost is not None:
        assert cost.num_images * (cost.num_steps + 1) <= num_passes


def make_config(**changes):
    config = schema.default()
    config.dataset.validation_fraction = 0.1
    config.method.update(name="pgd", epsilon=0.2, num_steps=4)
    for path, value in changes.items():
        group, field = path.split("__")
        config[group][field] = value
    return schema.resolve(config)


@pytest.fixture(scope="module")
def digits():
    test = data.load("digits", "test")
    return test.take(imbalance.select(test.labels, test.example_ids, np.full(10, 4)))


def make(digits, config=None, method=None, images_per_epoch=8_000):
    config, method = config or make_config(), method or Method()
    return validation.create(config, method, digits, images_per_epoch=images_per_epoch)


@pytest.mark.parametrize(
    ("changes", "method", "expected"),
    [
        # 240 images a pass: of each, 4 steps and a descent make 5, 1,200 in all, of which 60.
        ({}, Method(), "linf, epsilon 0.2, 1 step of 0.5, 30 images"),
        # 12,000: 600 buy 40 images 14 steps; no more than 10 are asked for.
        ({}, Method(replays=10), "linf, epsilon 0.2, 10 steps of 0.05, 40 images"),
        ({"validation__max_share": 0.2}, Method(), "5 steps of 0.1, 40 images"),
        # A run with an average validates two sets of weights.
        ({"optimizer__ema_decay": 0.9}, Method(replays=10), "6 steps of 0.0833333, 40 images"),
        ({"method__norm": "l2", "method__epsilon": 2.0}, Method(), "l2, epsilon 2, 1 step of 5"),
        (
            {"validation__epsilon": 0.1, "validation__step_size": 0.1},
            Method(),
            "0.1, 1 step of 0.1",
        ),
        # Standard training has no ball, and costs one pass: 12.  Digits' usual one is 0.1.
        (
            {"method__name": "standard", "method__epsilon": None, "method__num_steps": None},
            Method(),
            "linf, epsilon 0.1, 1 step of 0.25, 6 images",
        ),
    ],
)
def test_the_attack_is_paid_for_by_a_twentieth_of_the_epoch(digits, changes, method, expected):
    made = make(digits, make_config(**changes), method, images_per_epoch=240)
    assert f"pgd, {expected}" in made.about or expected in made.about
    assert made.attacked is not None
    assert made.attacked.num_examples == int(made.about.split()[-2])


def test_no_attack_where_none_is_wanted_or_affordable(digits):
    without = make(digits, make_config(validation__attack="none"))
    assert (without.attack, without.attacked, without.about) == (None, None, "")
    config = make_config(checkpoint__best="accuracy")
    assert make(digits, config, images_per_epoch=7).attack is None  # 35 passes
    with pytest.raises(ValueError, match=r"max_share = 0.05: of an epoch's 35 passes.*none"):
        make(digits, make_config(), images_per_epoch=7)


def test_each_class_gives_its_share_and_more_images_hold_those_of_fewer(digits):
    numbers = []
    for size in (10, 20, 40):
        some = validation._spread(digits, size)
        numbers.append(set(some.example_ids.tolist()))
        share = digits.class_counts * size / NUM_IMAGES
        assert np.all(np.abs(some.class_counts - share) <= 1)
    # Not those that come first, which of a set in records may be of one place or day.
    first = {int(digits.example_ids[digits.labels == label][0]) for label in range(10)}
    assert numbers[0] != first
    assert numbers[0] < numbers[1] < numbers[2] == set(digits.example_ids.tolist())


@pytest.fixture(scope="module")
def model(digits):
    info = digits.info
    return models.create(
        "mlp",
        num_classes=10,
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        widths=(4,),
    )


def test_what_is_found_is_what_the_attack_and_the_model_say(digits, model):
    """Plain and averaged weights, clean and attacked, class by class; by hand beside it."""
    images = jnp.asarray(digits.images, jnp.float32) / 255
    plain, average = (model.init(jax.random.key(seed), images[:1]) for seed in (0, 1))
    state = TrainState(jnp.int32(0), plain, (), average, MethodState((), ()))
    config = make_config(optimizer__ema_decay=0.9)
    made = make(digits, config)
    result = made(model, state)

    attack = attacks.pgd(epsilon=0.2, step_size=0.05, num_steps=10)
    key = prng.named(prng.key(config.seed), "validation")
    keys = prng.per_example(key, digits.example_ids)
    for name, variables in (("", average), ("plain/", plain)):
        logits_fn = jax.tree_util.Partial(model.apply, variables)
        logits = np.asarray(logits_fn(images), np.float64)
        found = np.asarray(attack(logits_fn, keys, images, digits.labels).predictions)
        clean = np.asarray(metrics.confusion_matrix(digits.labels, logits.argmax(1), 10))
        robust = np.asarray(metrics.confusion_matrix(digits.labels, found, 10))
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        chosen = shifted[np.arange(NUM_IMAGES), digits.labels] / shifted.sum(1)
        expected = {
            "loss": -np.log(chosen).mean(),
            "accuracy": clean.trace() / NUM_IMAGES,
            "robust_accuracy": robust.trace() / NUM_IMAGES,
            "robust_recall": robust.diagonal() / robust.sum(1),
            "robust_worst_class_accuracy": (robust.diagonal() / robust.sum(1)).min(),
        }
        for figure, value in expected.items():
            recorded = result.record[f"validation/{name}{figure}"]
            np.testing.assert_allclose(recorded, value, rtol=1e-5, err_msg=name + figure)
        if not name:
            np.testing.assert_array_equal(result.confusion, clean)
            np.testing.assert_array_equal(result.robust_confusion, robust)
    assert result.record["validation/attack"] == made.about
    assert result.record["validation/robust_accuracy"] < result.record["validation/accuracy"]

    other = make(digits, make_config(optimizer__ema_decay=0.9, checkpoint__weights="plain"))
    record = other(model, state).record
    for name in ("loss", "recall", "robust_accuracy"):
        mine, theirs = f"validation/{name}", f"validation/plain/{name}"
        np.testing.assert_array_equal(record[mine], result.record[theirs])
        np.testing.assert_array_equal(record[f"validation/average/{name}"], result.record[mine])


def test_a_class_without_an_image_has_no_accuracy(digits):
    some = digits.take(np.flatnonzero(digits.labels != 3))
    matrix = np.asarray(metrics.confusion_matrix(some.labels, some.labels, 10))
    figures = validation._figures(matrix, "")
    assert np.isnan(figures["recall"][3])
    assert figures["worst_class_accuracy"] == 1.0
