"""Splitting against probabilities that are known: linear models under noise.

The images have few pixels and the margins are sums in one order, so that results do not depend on
a batch's shape, not even in the last bit.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.stats import norm

from rbjax import perturbations
from rbjax.rpr.splitting import failure_probability

KEY = jax.random.key(0)
SCALE = 0.05
DISTANCES = np.array([3.0, 4.0, 5.0, 6.0])
TENTHS = np.array([2, -3, 1, 4, -2, 3, 1, 2], np.float32)
WEIGHTS = jnp.asarray(TENTHS / np.linalg.norm(TENTHS))


def linear(weights, images):
    """Class 0 where w (x - 0.5) > 0; with |w| = 1 that is the distance to class 1."""
    flat = images.reshape(images.shape[0], -1) - 0.5
    margin = sum(flat[:, i] * weights[i] for i in range(len(weights)))
    return jnp.stack([margin, jnp.zeros_like(margin)], axis=1)


LOGITS_FN = Partial(linear, WEIGHTS)


def at_distance(distances):
    """Returns images (N, 2, 4, 1) so many deviations of the noise from class 1."""
    offsets = SCALE * np.asarray(distances)[:, None] * np.asarray(WEIGHTS)
    return (0.5 + offsets).reshape(-1, 2, 4, 1).astype(np.float32)


def split(images, labels=None, logits_fn: Any = LOGITS_FN, **options: Any):
    labels = np.zeros(len(images), int) if labels is None else labels
    options = {"scale": SCALE, "num_particles": 1000, **options}
    return failure_probability(logits_fn, KEY, images, labels, **options)


@pytest.fixture(scope="module")
def gaussian():
    return split(at_distance(DISTANCES), num_runs=4, batch_size=16)


def test_the_normal_tail_of_a_linear_model(gaussian):
    """P = Phi(-d): at d = 5 2.8665e-7. Four runs of 1,000 particles each."""
    exact = norm.logsf(DISTANCES) / np.log(10)
    assert exact[2] == pytest.approx(-6.5426, abs=1e-4)
    assert np.all(np.abs(gaussian.log10_probability - exact) < 0.2)
    assert gaussian.converged.all()
    assert np.all(np.abs(gaussian.levels - np.floor(-exact)[:, None]) <= 1)


def test_the_spread_of_the_runs_is_seen(gaussian):
    """It is at least what levels that share nothing would give, to a factor that 4 runs leave."""
    ideal = np.sqrt(gaussian.levels.mean(1) * 9 / 1000 / 4) / np.log(10)
    assert np.all(gaussian.standard_error > ideal / 4)
    assert np.all(gaussian.standard_error < ideal * 3)
    np.testing.assert_allclose(
        gaussian.standard_error, np.std(gaussian.runs, axis=1, ddof=1) / 2, rtol=1e-12
    )
    mean = np.log10(np.mean(10**gaussian.runs, axis=1))
    np.testing.assert_allclose(gaussian.log10_probability, mean, rtol=1e-12)


def test_moves_are_accepted_as_aimed_and_counted(gaussian):
    assert np.all(np.abs(gaussian.acceptance - 0.234) < 0.05)
    assert np.all(gaussian.forward_passes == 1000 * (1 + 30 * gaussian.levels))


def test_the_corner_of_the_uniform_box():
    """Irwin and Hall: eight values in +-scale sum to at least (8 - 2 x) scale with x^8 / 8!."""

    def sums(images):
        total = sum(images[:, i // 4, i % 4, 0] for i in range(8))
        return jnp.stack([jnp.zeros_like(total), total - 4 - (8 - 2 * 0.5) * SCALE], axis=1)

    middle = np.full((1, 2, 4, 1), 0.5, np.float32)
    result = split(middle, logits_fn=sums, noise="uniform", num_runs=4, batch_size=4)
    exact = 8 * np.log10(0.5) - np.log10(40320)
    assert exact == pytest.approx(-7.01, abs=0.01)
    assert abs(result.log10_probability[0] - exact) < 0.2
    assert result.converged.all()


def test_plain_draws_agree_where_they_can():
    """Clipped uniform noise on a model that is not linear; 200,000 draws of p about 0.01."""

    def model(images):
        flat = images.reshape(images.shape[0], -1)
        far = jnp.sum((flat - 0.9) ** 2, axis=1) - 3.68
        return jnp.stack([jnp.zeros_like(far), far], axis=1)

    image = np.full((2, 4, 1), 0.5, np.float32) + 0.05 * TENTHS.reshape(2, 4, 1)
    scale = 0.6
    noise = perturbations.uniform_noise(epsilon=scale)
    drawn = jax.jit(jax.vmap(noise, in_axes=(0, None)))(jax.random.split(KEY, 200_000), image)
    fails = np.argmax(np.asarray(model(drawn)), axis=1) == 1
    assert 0.005 < fails.mean() < 0.03
    result = split(
        image[None],
        logits_fn=model,
        scale=scale,
        noise="uniform",
        clipped=True,
        num_particles=4000,
        num_runs=4,
        batch_size=4,
    )
    assert abs(result.log10_probability[0] - np.log10(fails.mean())) < 0.06


def test_what_fails_anyway_and_what_never_fails():
    """Certain failure; misclassified as it is; a margin that noise cannot change."""
    images = at_distance([-8.0, -1.0, 0.0])
    result = split(images, num_particles=4000, batch_size=3)
    assert result.log10_probability[0] == 0
    expected = np.array([1, norm.cdf(1), 0.5])
    np.testing.assert_allclose(10**result.log10_probability, expected, atol=0.03)
    assert np.all(result.levels == 0)
    assert result.converged.all()
    assert np.isnan(result.acceptance).all()
    assert np.isnan(result.standard_error).all()

    def bounded(images):
        margin = 0.1 + jnp.abs(images[:, 0, 0, 0])
        return jnp.stack([margin, jnp.zeros_like(margin)], axis=1)

    def constant(images):
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), (images.shape[0], 2))

    for model, highest in ((bounded, -5), (constant, 0)):
        result = split(images[:1], logits_fn=model, max_levels=6, num_particles=100)
        assert not result.converged.any()
        assert result.levels.tolist() == [[6]]
        assert np.isfinite(result.log10_probability).all()
        assert result.log10_probability[0] <= highest


def test_clipping_can_make_failure_impossible():
    """A white pixel is not brightened further."""

    def bright(images):
        x = images[:, 0, 0, 0]
        return jnp.stack([jnp.full_like(x, 1.05), x], axis=1)

    image = np.ones((1, 1, 1, 1), np.float32)
    assert split(image, logits_fn=bright).log10_probability[0] == pytest.approx(-0.8, abs=0.15)
    assert not split(image, logits_fn=bright, clipped=True, max_levels=3).converged[0]


def test_neither_blocks_nor_order_matter():
    images, ids = at_distance([3, 4.5, 0.5, 5]), np.array([7, 1, 30, 2])
    options = {"num_particles": 100, "num_moves": 10, "num_runs": 2}
    whole = split(images, example_ids=ids, batch_size=8, **options)
    order = np.array([2, 0, 3, 1])
    parts = split(images[order], example_ids=ids[order], batch_size=3, **options)
    np.testing.assert_array_equal(parts.runs, whole.runs[order])
    fewer = split(images[:1], example_ids=ids[:1], batch_size=1, **{**options, "num_runs": 1})
    np.testing.assert_array_equal(fewer.runs[0], whole.runs[0, :1])
    assert len(np.unique(whole.runs)) > 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.full((1, 2, 4, 1), 2.0)}, "images range from 2 to 2"),
        ({"images": np.zeros((0, 2, 4, 1))}, "images holds no image"),
        ({"labels": np.array([2])}, "labels holds 2; allowed: 0 to 1"),
        ({"example_ids": np.array([-1])}, "example_ids holds -1"),
        (
            {"logits_fn": lambda x: x[:, 0, :1, 0]},
            r"logits_fn gives shape .*, one logit an image; it must give one a class",
        ),
        ({"key": jax.random.split(KEY, 2)}, "key has shape"),
        ({"noise": "gausian"}, "noise 'gausian' is unknown.*did you mean 'gaussian'"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"num_particles": 1}, "num_particles is 1"),
        ({"num_particles": 4}, "quantile is 0.1; of 4 particles"),
        ({"quantile": 1.0}, "quantile is 1.0"),
        ({"num_moves": 0}, "num_moves is 0"),
        ({"max_levels": 0}, "max_levels is 0"),
        ({"num_runs": 0}, "num_runs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_input(change, message):
    call: dict[str, Any] = {
        "logits_fn": LOGITS_FN,
        "key": KEY,
        "images": at_distance([3]),
        "labels": np.array([0]),
        "scale": SCALE,
        **change,
    }
    with pytest.raises(ValueError, match=message) as error:
        failure_probability(**call)
    assert "\n" not in str(error.value)
