"""Failure probabilities under Gaussian noise without draws, and what they are wrong by.

Both estimators put a linear model in the place of the classifier, so they are as good as that is:
`error_against_draws` says how good. They are the fast path for small noise on many images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, Examples, check_examples, cut, map_blocks
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, Model, as_classifier
from rbjax.inputs import check_integer, check_real, to_float
from rbjax.progress import ShowProgress, Tell, teller
from rbjax.tables import lookup
from rbjax.typing import Array, Key

_JITTER = 1e-5
"""Shrinks correlations, which float32 leaves a little less than positive semidefinite."""
_FARTHEST = 37.0
"""Deviations from which on the normal tail is 0 in float64."""
_NEGLIGIBLE = 1e-6
"""Bounds of a probability this close need no integral between them."""


class ClosedForm(NamedTuple):
    """What a closed form returns."""

    failure_probability: np.ndarray
    """(N,) float64, of one draw."""
    p_correct: np.ndarray
    """(N,) float64, `1 - failure_probability`."""


class Linearization(NamedTuple):
    """A linear model's margins over the K - 1 wrong classes, in the order t + 1, ..., t - 1."""

    distances: Any
    """(N, K - 1) float32, z_i = g_i / (sigma |grad g_i|), g_i = f_t - f_i."""
    correlation: Any
    """(N, K - 1, K - 1) float32, of the margins under noise."""


def taylor(
    logits_fn: Model,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    sigma: float,
    form: str = "normal",
    block_size: int = 256,
    progress: ShowProgress = None,
) -> ClosedForm:
    """Returns P[argmax f(x + sigma n) != t] of the classifier's tangent at x.

    1 - Phi(z; C), z_i = g_i(x) / (sigma |grad g_i(x)|) with g_i = f_t - f_i for each wrong class i,
    C = U U^T with rows grad g_i / |grad g_i|. Exact for a linear model; the noise is not clipped.
    An image whose logits or gradients hold a NaN fails surely.

    Args:
        logits_fn: images -> logits (B, K), differentiable.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers t, the true classes.
        sigma: standard deviation of the noise, in pixel units, above 0.
        form: `"normal"`, or `"sigmoid"`: see `FORMS`.
        block_size: images whose K gradients are taken at once.
        progress: shown if True; a function is called after each block.

    Returns:
        The probabilities.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Han, Srinivas and Lakkaraju 2024, "Characterizing Data Point Vulnerability via Average-Case
        Robustness", arXiv 2307.13885, the Taylor estimator; there t is the predicted class.
    """
    sigma, block_size = _check(sigma, block_size)
    integrate = lookup(FORMS, form, what="form")
    model = as_classifier(logits_fn).deterministic()
    examples = check_examples(images, labels, count_classes=model.count_classes)

    def linearize(rows: np.ndarray, images: Array) -> Linearization:
        return _taylor(model, images, jnp.asarray(examples.labels[rows]), sigma)

    return integrate(_in_blocks(linearize, examples, block_size, teller(progress)))


def mmse(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    sigma: float,
    num_draws: int = 10,
    form: str = "normal",
    example_ids: np.ndarray | Array | None = None,
    block_size: int = 256,
    progress: ShowProgress = None,
) -> ClosedForm:
    """Returns P[argmax f(x + sigma n) != t] of the linear model nearest to f around x.

    As `taylor`, with the means of g_i and grad g_i over draws x + sigma n in the place of their
    values at x: the linear function of least mean square error under the noise.

    Args:
        logits_fn: as for `taylor`.
        key: the base of the draws' keys, `fold_in(fold_in(key, example_id), draw)`.
        images: as for `taylor`.
        labels: as for `taylor`.
        sigma: as for `taylor`.
        num_draws: draws that are averaged, at least 1; each costs K gradients.
        form: as for `taylor`.
        example_ids: (N,) integers; None: the row numbers.
        block_size: as for `taylor`.
        progress: as for `taylor`.

    Returns:
        The probabilities.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Han, Srinivas and Lakkaraju 2024, arXiv 2307.13885, the MMSE estimator.
    """
    sigma, block_size = _check(sigma, block_size)
    num_draws = check_integer("num_draws", num_draws, low=1)
    integrate = lookup(FORMS, form, what="form")
    key = prng.check(key)
    model = as_classifier(logits_fn).deterministic()
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )

    def linearize(rows: np.ndarray, images: Array) -> Linearization:
        keys = prng.per_example(key, jnp.asarray(examples.example_ids[rows]))
        labels = jnp.asarray(examples.labels[rows])
        return _mmse(model, keys, images, labels, sigma, num_draws)

    return integrate(_in_blocks(linearize, examples, block_size, teller(progress)))


def _in_blocks(
    linearize: Callable[[np.ndarray, Array], Linearization],
    examples: Examples,
    block_size: int,
    tell: Tell | None,
) -> Linearization:
    """Returns the linear models of all images."""

    def run(block: Block, images: np.ndarray) -> dict[str, Array]:
        return linearize(block.padded, to_float(block.fill(images)))._asdict()

    num_images = len(examples.labels)
    blocks = cut(np.arange(num_images), min(block_size, num_images))
    found = map_blocks(run, blocks, read=lambda block: examples.read(block.rows), tell=tell)
    return Linearization(**found)


def normal_form(linearization: Linearization) -> ClosedForm:
    """Returns 1 - Phi(z; C), Phi the distribution function of the multivariate normal.

    The integral is SciPy's, to about 1e-5 in 3 ms for K = 10. It lies between the largest and the
    sum of the tails Phi(-z_i), which also hold where its error would be larger than itself; where
    the two are within 1e-6 the sum is taken without an integral.

    Args:
        linearization: of N images.

    Returns:
        The probabilities.
    """
    from scipy.special import ndtr
    from scipy.stats import multivariate_normal

    distances = np.clip(np.asarray(linearization.distances, np.float64), -_FARTHEST, _FARTHEST)
    tails = ndtr(-distances)
    low, high = np.max(tails, axis=1), np.minimum(np.sum(tails, axis=1), 1.0)
    failure = high.copy()
    for row in np.flatnonzero(high - low > _NEGLIGIBLE):
        correlation = np.asarray(linearization.correlation[row], np.float64)
        covariance = (correlation + _JITTER * np.eye(len(correlation))) / (1 + _JITTER)
        np.fill_diagonal(covariance, 1.0)
        # A fixed sequence of points, so that it is the same each time.
        options = {"maxpts": 2000, "rng": np.random.default_rng(0)}
        cdf: Any = multivariate_normal.cdf  # its stubs allow numbers only
        failure[row] = 1 - float(cdf(distances[row], cov=covariance, **options))
    failure = np.clip(failure, low, high)
    return ClosedForm(failure, 1 - failure)


def sigmoid_form(linearization: Linearization) -> ClosedForm:
    """Returns S / (1 + S), S = sum_i exp(-z_i): the multivariate sigmoid instead of the normal.

    No integral and no correlations; no tail as light as the normal's either, so that even a linear
    model's probability is off (by up to 0.12 with two classes).

    Args:
        linearization: of N images.

    Returns:
        The probabilities.
    """
    from scipy.special import expit, logsumexp

    distances = np.asarray(linearization.distances, np.float64)
    logit = np.asarray(logsumexp(-distances, axis=1))
    return ClosedForm(expit(logit), expit(-logit))


FORMS: dict[str, Callable[[Linearization], ClosedForm]] = {
    "normal": normal_form,
    "sigmoid": sigmoid_form,
}
"""From a linear model's margins to the probability that all are positive, by name."""


def _jacobian(model: Classifier, images: Array) -> tuple[Array, Array]:
    """Returns logits (B, K) and the gradient of each, (B, K, H W C)."""
    logits, pull_back = jax.vjp(functools.partial(model.logits, None), images)
    num_images, num_classes = logits.shape

    def gradient(number: Array) -> Array:
        chosen = jax.nn.one_hot(number, num_classes, dtype=logits.dtype)
        return pull_back(jnp.broadcast_to(chosen, logits.shape))[0].reshape(num_images, -1)

    # One after another: mapped, XLA's gradient of a max pooling is several times slower on CPU.
    gradients = jax.lax.map(gradient, jnp.arange(num_classes))
    return logits.astype(jnp.float32), jnp.moveaxis(gradients, 0, 1)


def _power_of_two(values: Array) -> Array:
    """Returns a power of two near each value; 1 for 0 and what is not finite."""
    is_normal = jnp.isfinite(values) & (values > 0)
    bits = jax.lax.bitcast_convert_type(jnp.where(is_normal, values, 1.0), jnp.int32)
    floor = jax.lax.bitcast_convert_type(bits & 0x7F800000, jnp.float32)
    return jnp.maximum(floor, jnp.finfo(jnp.float32).tiny)


def _standardize(logits: Array, gradients: Array, labels: Array, sigma: Array) -> Linearization:
    """Returns the margins over the wrong classes, in deviations under noise."""
    num_classes = logits.shape[1]
    wrong = (labels[:, None] + jnp.arange(1, num_classes)) % num_classes
    margins, slopes = (
        jnp.take_along_axis(x, labels[:, None, None], axis=1)
        - jnp.take_along_axis(x, wrong[:, :, None], axis=1)
        for x in (logits[:, :, None], gradients)
    )
    # By a power of two, which moves no bit: the square of a slope of 1e30 is infinite.
    scales = _power_of_two(jnp.max(jnp.abs(slopes), axis=2))[:, :, None]
    margins, slopes = margins / scales, slopes / scales
    norms = jnp.linalg.norm(slopes, axis=2)
    flat = norms == 0
    directions = slopes / jnp.where(flat, 1.0, norms)[:, :, None]
    # What noise does not move stays on its side; a tie counts as half.
    distances = margins[:, :, 0] / jnp.where(flat, 1.0, sigma * norms)
    aside = jnp.where(margins[:, :, 0] == 0, 0.0, jnp.sign(margins[:, :, 0]) * jnp.inf)
    correlation = jnp.einsum("nid,njd->nij", directions, directions, precision="highest")
    distances = jnp.where(flat, aside, distances)
    # What has no tangent, since its answer or a gradient is NaN, fails.
    return Linearization(jnp.where(jnp.isnan(distances), -jnp.inf, distances), correlation)


@Compiled
@jax.jit
def _taylor(model: Classifier, images: Array, labels: Array, sigma: Array) -> Linearization:
    """Returns the tangent at each image."""
    logits, gradients = _jacobian(model.in_loops(), images)
    return _standardize(logits, gradients, labels, sigma)


@Compiled
@jax.jit
def _mmse(
    model: Classifier, keys: Key, images: Array, labels: Array, sigma: Array, num_draws: Array
) -> Linearization:
    """Returns the linear function nearest to the logits around each image."""
    jacobian = functools.partial(_jacobian, model.in_loops())

    def add(draw: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        normal = functools.partial(prng.normal, shape=images.shape[1:])
        noise = jax.vmap(normal)(prng.per_draw(keys, draw + 1))
        return jax.tree.map(jnp.add, sums, jacobian(images + sigma * noise))

    shapes = jax.eval_shape(jacobian, images)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    logits, gradients = jax.lax.fori_loop(0, num_draws, add, zeros)
    return _standardize(logits / num_draws, gradients / num_draws, labels, sigma)


def _check(sigma: float, block_size: int) -> tuple[float, int]:
    """Returns both, checked."""
    sigma = check_real("sigma", sigma)
    if sigma == 0:
        raise ValueError("sigma is 0; it must be above 0")
    return sigma, check_integer("block_size", block_size, low=1)
