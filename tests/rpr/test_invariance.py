"""A real CNN's scores, however they are computed; only draws whose top logits tie may differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from rbjax import data, models, perturbations, prng, rpr
from rbjax.losses.adversarial import cross_entropy
from rbjax.rpr import scoring

KEY = jax.random.key(3)
MAX_STEPS = 12
COPIES = 3
"""Of the digits, each with draws of its own: 5,391 images, more than the largest batch."""
PERTURBATION = perturbations.random_pixels(values="binary", exactly=True)
TIE = 1e-5


class Images(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    example_ids: np.ndarray


@pytest.fixture(scope="module", autouse=True)
def _a_lane_an_image():
    """So that the images fill the largest batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_IMAGES_PER_LANE", 1)
        yield


@pytest.fixture(scope="module")
def trained():
    """Returns a CNN after 200 steps on digits, and what is scored."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    model = models.create(
        "simple_cnn",
        num_classes=10,
        image_shape=train.info.image_shape,
        mean=train.info.mean,
        std=train.info.std,
        widths=(8, 16),
    )
    variables = model.init(jax.random.key(0), jnp.zeros((1, *train.info.image_shape)))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(variables, state, images, labels):
        def loss(variables):
            return jnp.mean(cross_entropy(model.apply(variables, images), labels))

        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, updates), state

    state, order = optimizer.init(variables), np.random.default_rng(0)
    for _ in range(200):
        rows = order.integers(0, train.num_examples, 64)
        variables, state = step(
            variables, state, np.float32(train.images[rows]) / 255, train.labels[rows]
        )
    images = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])
    return Partial(model.apply, variables), copies(Images(images, labels, np.zeros(0)), 1)


def copies(test: Images, number: int) -> Images:
    labels = np.tile(test.labels, number)
    return Images(np.tile(test.images, (number, 1, 1, 1)), labels, 7 * np.arange(len(labels)))


@pytest.fixture(scope="module")
def reference(trained):
    return in_batches_of_64(*trained)


def in_batches_of_64(logits_fn, test):
    """Returns the scores with batches of 64, and which draws tie, (N, MAX_STEPS)."""
    images = jnp.float32(test.images) / 255

    @jax.jit
    def tie(logits_fn, draw):
        keys = prng.per_draw(prng.per_example(KEY, test.example_ids), draw)
        top = jax.lax.top_k(logits_fn(jax.vmap(PERTURBATION)(keys, images)), 2)[0]
        return top[:, 0] - top[:, 1] <= TIE

    ties = np.stack([tie(logits_fn, draw) for draw in range(1, MAX_STEPS + 1)], axis=1)
    scores = score(logits_fn, test, batch_size=64)
    assert scores.clean_correct.mean() > 0.9
    assert 0.1 < scores.robust.mean() < 0.9
    return scores, ties


def score(logits_fn, test, rows: Any = slice(None), **options):
    options = {"devices": jax.devices()[:1], **options}
    return rpr.score(
        logits_fn,
        KEY,
        test.images[rows],
        test.labels[rows],
        example_ids=test.example_ids[rows],
        max_steps=MAX_STEPS,
        perturbation=PERTURBATION,
        **options,
    )


WAYS = {
    "batches of 1,024": lambda logits_fn, test: score(
        logits_fn, test, batch_size=1024, block_size=2048
    ),
    "8 devices": lambda logits_fn, test: score(logits_fn, test, devices=jax.devices()[:8]),
    "blocks of 500": lambda logits_fn, test: score(logits_fn, test, block_size=500),
    "a black box": lambda logits_fn, test: score(
        rpr.black_box(lambda images: np.argmax(_LOGITS(logits_fn, images), -1)), test
    ),
    "a plain function": lambda logits_fn, test: score(lambda images: logits_fn(images), test),
}
_LOGITS = jax.jit(lambda logits_fn, images: logits_fn(images))


@pytest.mark.parametrize("way", WAYS)
def test_same_scores(trained, reference, way):
    check(WAYS[way](*trained).first_failure, *reference)


def test_same_scores_in_another_order(trained, reference):
    logits_fn, test = trained
    order = np.random.default_rng(0).permutation(len(test.labels))
    shuffled = score(logits_fn, test, rows=order).first_failure
    first_failure = np.empty_like(shuffled)
    first_failure[order] = shuffled
    check(first_failure, *reference)


@pytest.mark.full_size
def test_same_scores_in_batches_of_4096(trained):
    logits_fn, test = trained[0], copies(trained[1], COPIES)
    scores = score(logits_fn, test, batch_size=4096, block_size=8192)
    check(scores.first_failure, *in_batches_of_64(logits_fn, test))


@pytest.mark.parametrize(("number", "largest"), [(1, 1024), (COPIES, 4096)])
def test_the_largest_batch_is_one(number, largest):
    lanes = scoring._num_lanes(number * 1797, largest, "cpu", scoring._IMAGES_PER_LANE)
    assert lanes == largest


def check(first_failure, scores, ties):
    """Every first failure that differs is one of, or comes after, a draw that ties."""
    differ = np.flatnonzero(first_failure != scores.first_failure)
    print(f"draws that tie: {ties.sum()} of {ties.size}; first failures that differ: {len(differ)}")
    earliest = np.minimum(first_failure, scores.first_failure)
    assert all(ties[row, earliest[row] - 1] for row in differ)
    assert ties.mean() < 0.001
