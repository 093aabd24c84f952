"""Corruptions by name, as makers with options, and as functions of one's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import corruptions
from tests.test_tables import toy_corruption


def test_run_corruptions_runs_what_is_in_the_table(monkeypatch):
    monkeypatch.setitem(corruptions.CORRUPTIONS, "toy_of_tests", toy_corruption)
    for profile in corruptions.PROFILES:
        assert corruptions.published(profile)["toy_of_tests"] == (1, 2, 3, 4, 5)
    result = corruptions.run_corruptions(
        lambda images: images.reshape(len(images), -1)[:, :2],
        jax.random.key(0),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.array([0, 1]),
        profile="mnist",
        severities={"toy_of_tests": (1, 5)},
    )
    assert result.predictions["toy_of_tests"].shape == (2, 2)


def test_run_corruptions_takes_makers_functions_and_options():
    images = np.full((2, 8, 8, 1), 200, np.uint8)
    levels = []

    def seen(*, severity: int, toy: float = 3.0):
        levels.append((severity, toy))
        return lambda key, image: image * 0

    result = corruptions.run_corruptions(
        lambda images: jnp.stack([images.mean((1, 2, 3)), jnp.full(len(images), 0.1)], axis=1),
        jax.random.key(0),
        images,
        np.array([0, 1]),
        profile="mnist",
        severities={"seen": (2,), "fog": (1,)},
        corruptions={"seen": seen, "same": lambda key, image: image, "dark": seen},
        options={"seen": {"toy": 7}, "dark": {"toy": 8}},
    )
    assert result.severities == {"seen": (2,), "fog": (1,), "same": (1,), "dark": (1, 2, 3, 4, 5)}
    assert {(2, 7.0), *((level, 8.0) for level in range(1, 6))} == set(levels)
    assert result.predictions["same"].tolist() == [[0, 0]]
    assert result.predictions["seen"].tolist() == [[1, 1]]


def test_equal_options_make_equal_corruptions():
    one = corruptions.create(toy_corruption, severity=2, toy=4)
    assert one == corruptions.create(toy_corruption, severity=2, toy=4)
    assert one != corruptions.create(toy_corruption, severity=2, toy=5)
    assert one != corruptions.create(toy_corruption, severity=3, toy=4)
    with pytest.raises(ValueError, match=r"has no option 'toi'.*'toy'"):
        corruptions.create(toy_corruption, severity=2, toi=5)
