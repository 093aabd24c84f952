"""What every perturbation, corruption and loss must do: functions of one image, or one example."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.typing import Array, LossFn, Perturbation

KEYS = prng.per_example(prng.key(0), jnp.arange(16))
SHAPES = ((6, 6, 1), (5, 7, 3))
NUM_CLASSES = 4
LOGITS = 3 * prng.normal(prng.key(0), (8, NUM_CLASSES))
LABELS = jnp.array([0, 1, 2, 3, 3, 2, 1, 0])


def check_perturbation(
    perturbation: Perturbation,
    *,
    shapes: tuple[tuple[int, int, int], ...] = SHAPES,
    random: bool = True,
) -> None:
    """Puts a perturbation to everything that rbjax's own are held to.

    It keeps shape and dtype, stays in [0, 1] and changes something; a key gives one image, at any
    row, alone or in a batch, compiled or not; another key gives another image.

    Args:
        perturbation: (key, image (H, W, C) in [0, 1]) -> image.
        shapes: the (H, W, C) it is tried on.
        random: whether it draws from its key at all.

    Raises:
        AssertionError: for whatever it does not do, beginning with the check's name.
    """
    if not callable(perturbation):
        raise AssertionError(
            "check_perturbation: a perturbation is a function (key, image) -> image, such as "
            f"perturbations.create('rotation'); this is a {type(perturbation).__name__}"
        )
    try:
        jax.eval_shape(perturbation, KEYS[0], jnp.zeros(shapes[-1], jnp.float32))
    except TypeError as error:
        raise AssertionError(
            "check_perturbation: cannot be called as perturbation(key, image); a maker has to be "
            f"called first: {error}"
        ) from error
    # One function, so that the checks share what is compiled of it.
    batched = jax.jit(jax.vmap(perturbation))
    check_range(perturbation, shapes=shapes, batched=batched)
    check_pure(perturbation, shape=shapes[-1], batched=batched)
    if random:
        check_random(perturbation, shape=shapes[-1], batched=batched)


def make_images(shape: tuple[int, int, int]) -> Array:
    """Returns 16 images with a black row and a white one."""
    images = prng.uniform(prng.key(1), (16, *shape))
    return images.at[:, 0].set(0.0).at[:, 1].set(1.0)


def check_range(
    perturbation: Perturbation,
    *,
    shapes: tuple[tuple[int, int, int], ...] = SHAPES,
    batched: Callable[..., Array] | None = None,
) -> None:
    """Checks that shape and dtype are kept, values stay in [0, 1], and something changes."""
    batched = batched or jax.jit(jax.vmap(perturbation))
    for shape in shapes:
        images = make_images(shape)
        perturbed = batched(KEYS, images)
        kept = (perturbed.shape, perturbed.dtype) == (images.shape, images.dtype)
        assert kept, f"check_range: {images.shape} became {perturbed.dtype} {perturbed.shape}"
        assert np.all((perturbed >= 0) & (perturbed <= 1)), "check_range: leaves [0, 1]"
        assert np.any(perturbed != images), "check_range: nothing changes"
    half = jax.eval_shape(perturbation, KEYS[0], jnp.zeros(shapes[-1], jnp.bfloat16))
    assert (half.shape, half.dtype) == (shapes[-1], jnp.bfloat16), "check_range: not in bfloat16"


def check_pure(
    perturbation: Perturbation,
    *,
    shape: tuple[int, int, int] = SHAPES[1],
    batched: Callable[..., Array] | None = None,
) -> None:
    """Checks that a key gives one result: at any row, alone or in a batch, under jit or not."""
    images, order = make_images(shape), jnp.arange(16)[::-1]
    batched = batched or jax.jit(jax.vmap(perturbation))
    perturbed, moved = batched(KEYS, images), batched(KEYS[order], images[order])
    assert np.allclose(moved[order], perturbed, rtol=0, atol=1e-6), "check_pure: by the row"
    alone = perturbation(KEYS[4], images[4])
    assert np.allclose(alone, perturbed[4], rtol=0, atol=1e-6), "check_pure: alone it is another"


def check_random(
    perturbation: Perturbation,
    *,
    shape: tuple[int, int, int] = SHAPES[1],
    batched: Callable[..., Array] | None = None,
) -> None:
    """Checks that every key gives another image."""
    images = jnp.tile(make_images(shape)[:1], (16, 1, 1, 1))
    batched = batched or jax.jit(jax.vmap(perturbation))
    perturbed = np.asarray(batched(KEYS, images)).reshape(16, -1)
    assert len(np.unique(perturbed, axis=0)) == 16, "check_random: two keys give one image"


def check_loss(loss_fn: LossFn) -> None:
    """Puts a loss to everything that rbjax's own are held to.

    One float32 an example, computed in float32 whatever the logits are; an example's loss depends
    on no other example; compiled it is the same; its gradient is finite at large logits; it falls
    as the logit of the true class rises.

    Args:
        loss_fn: (logits (B, K), labels (B,)) -> (B,); tried with 4 classes.

    Raises:
        AssertionError: for whatever it does not do, beginning with `check_loss`.
    """
    if not callable(loss_fn):
        raise AssertionError(
            "check_loss: a loss is a function (logits (B, K), labels (B,)) -> (B,), such as "
            f"losses.create('cross_entropy'); this is a {type(loss_fn).__name__}"
        )
    try:
        losses = loss_fn(LOGITS, LABELS)
    except TypeError as error:
        raise AssertionError(
            "check_loss: cannot be called as loss(logits, labels); a maker has to be called "
            f"first: {error}"
        ) from error
    is_array = isinstance(losses, jax.Array | np.ndarray)
    assert is_array, f"check_loss: returns a {type(losses).__name__}, not an array (B,)"
    assert losses.shape == (8,), f"check_loss: shape {losses.shape}, not one an example"
    coarse = LOGITS.astype(jnp.bfloat16)
    rough = loss_fn(coarse, LABELS)
    floats = (losses.dtype, rough.dtype) == (jnp.float32, jnp.float32)
    assert floats, "check_loss: it is not float32 for float32 and bfloat16 logits"
    exact = loss_fn(coarse.astype(jnp.float32), LABELS)
    assert np.array_equal(rough, exact), "check_loss: bfloat16 logits are not computed in float32"
    alone = jnp.stack([loss_fn(LOGITS[i : i + 1], LABELS[i : i + 1])[0] for i in range(8)])
    assert np.allclose(losses, alone, rtol=1e-6, atol=0), "check_loss: depends on the batch"
    jitted = jax.jit(loss_fn)(LOGITS, LABELS)
    assert np.allclose(jitted, losses, rtol=1e-5, atol=0), "check_loss: compiled it is another"
    gradient = jax.grad(lambda z: loss_fn(z, LABELS).sum())
    finite = np.isfinite(gradient(100 * LOGITS)).all()
    assert finite, "check_loss: its gradient is not finite at large logits"
    falls = np.asarray(gradient(LOGITS / 100))[np.arange(8), LABELS] < 0
    assert falls.all(), "check_loss: it does not fall as the logit of the true class rises"
