"""Keys of one generator, and draws that depend on nothing but the example's key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import define_prng_impl

import rbjax
from rbjax import corruptions, perturbations, prng

FOREIGN = ("rbg", "unsafe_rbg")


def words(key):
    assert str(jax.random.key_impl(key)) == "threefry2x32"
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("impl", FOREIGN)
def test_a_key_of_a_seed_is_that_of_the_same_seed(impl):
    for seed in (0, 7, 2**31):
        key, own = jax.random.key(seed, impl=impl), prng.key(seed)
        np.testing.assert_array_equal(words(prng.check(key)), words(own))
        if impl == "unsafe_rbg":
            continue
        folded = jax.random.fold_in(key, 5)
        np.testing.assert_array_equal(words(prng.check(folded)), words(jax.random.fold_in(own, 5)))
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    converted = words(prng.check(keys, 4))
    assert len(np.unique(converted, axis=0)) == 4
    np.testing.assert_array_equal(
        words(jax.jit(prng.broadcast, static_argnums=1)(keys, 4)), converted
    )
    if impl == "rbg":
        np.testing.assert_array_equal(converted, words(prng.split(prng.key(3), 4)))
    else:  # whose halves differ: all four words count
        other = jax.random.key_data(keys).at[:, 3].add(1)
        other = prng.check(jax.random.wrap_key_data(other, impl=impl), 4)
        assert not np.any(np.all(words(other) == converted, axis=1))


def test_what_is_no_key_is_refused():
    other = define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jnp.zeros(2, jnp.uint32),
        split=lambda key, shape: jnp.zeros((*shape, 2), jnp.uint32),
        random_bits=lambda key, width, shape: jnp.zeros(shape, jnp.uint32),
        fold_in=lambda key, data: key,
        name="zeros",
        tag="zr",
    )
    key = prng.key(0)
    cases: tuple[tuple[Any, str], ...] = (
        (0, "key is 0; it must be a typed key, such as jax.random.key"),
        (None, "key is None"),
        (jax.random.PRNGKey(0), "key has dtype uint32; it must be a typed key"),
        (np.zeros(2, np.uint32), "key has dtype uint32"),
        (prng.split(key), r"key has shape \(2,\); it must be one key"),
        (jax.random.key(0, impl=other), "allowed: threefry2x32, rbg, unsafe_rbg"),
    )
    for wrong, message in cases:
        for call in (prng.check, prng.uniform):
            with pytest.raises(ValueError, match=message):
                call(cast(Any, wrong))
    for call in (prng.split, lambda key: prng.fold_in(key, 1), lambda key: prng.named(key, "a")):
        with pytest.raises(ValueError, match="it must be a typed key"):
            call(jax.random.PRNGKey(0))
    with pytest.raises(ValueError, match=r"key has shape \(2,\); allowed: \(\) or \(3,\)"):
        prng.broadcast(prng.split(key), 3)


@pytest.mark.parametrize("impl", FOREIGN)
def test_draws_of_one_example_depend_on_no_other(impl):
    images = np.random.default_rng(0).random((5, 8, 8, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1, impl=impl), 5)
    for change in (
        perturbations.gaussian_noise(sigma=0.2),
        perturbations.random_pixels(max_pixels=5),
        corruptions.create("shot_noise", severity=2),
    ):
        together = jax.jit(jax.vmap(change))(keys, images)
        moved = jax.jit(jax.vmap(change))(keys[::-1], images[::-1])
        np.testing.assert_array_equal(moved[::-1], together)
        np.testing.assert_allclose(change(keys[3], images[3]), together[3], atol=1e-6)
        assert not np.allclose(together, images)


def test_no_number_depends_on_the_default_generator():
    images = np.random.default_rng(0).random((6, 8, 8, 1)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)

    def logits_fn(x):
        return (x - 0.5).reshape(len(x), -1) @ weights

    labels = np.argmax(logits_fn(images), -1)

    def ask():
        key, noise = jax.random.key(2), perturbations.uniform_noise(epsilon=0.4)
        arguments = logits_fn, key, images, labels
        return (
            rbjax.rpr.score(*arguments, max_steps=4, perturbation=noise).first_failure,
            rbjax.attacks.pgd(epsilon=0.1, num_steps=1)(*arguments).images,
            rbjax.attacks.craft_universal(*arguments, epsilon=0.2, num_epochs=1).delta,
        )

    expected = ask()
    for impl in FOREIGN:
        with jax.default_prng_impl(impl):
            for found, own in zip(ask(), expected, strict=True):
                np.testing.assert_array_equal(found, own)


def test_random_numbers_come_from_here_alone():
    root = Path(rbjax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        code = re.sub(r'"""[\s\S]*?"""|"[^"\n]*"', "", path.read_text(encoding="utf-8"))
        used = set(re.findall(r"jax\.random\.(\w+)", code)) - {"key_data"}
        assert not used or path.name == "prng.py", f"{path.name}: {used}"
