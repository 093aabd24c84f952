"""What every entry of `PERTURBATIONS` must do, and that a wrong perturbation does not pass.

A perturbation is tested by being listed, with its default options. The checks are those of
`rbjax.testing`, which mutants are fed to at the end.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from rbjax import perturbations, testing
from rbjax.testing.functions import check_pure, check_random, check_range


@pytest.mark.parametrize("name", perturbations.PERTURBATIONS)
def test_contract(name):
    testing.check_perturbation(perturbations.create(name))


def test_chain():
    """One of each kind."""
    chain = "rotation+gaussian_blur+contrast+fog+rain+uniform_noise"
    testing.check_perturbation(perturbations.create(chain))


@pytest.mark.parametrize("name", perturbations.PERTURBATIONS)
def test_equal_options_make_equal_perturbations(name):
    """So that a compiled program of one serves the other."""
    one, other = perturbations.create(name), perturbations.create(name)
    assert one == other
    assert hash(one) == hash(other)


MUTANTS = {
    "identity": (lambda key, image: image, check_range),
    "unclipped": (
        lambda key, image: image + 0.1 * jax.random.normal(key, image.shape),
        check_range,
    ),
    "float32": (lambda key, image: jax.random.uniform(key, image.shape), check_range),
    "one key": (
        lambda key, image: jax.random.uniform(jax.random.key(0), image.shape),
        check_random,
    ),
    "impure": (lambda key, image: image * np.random.default_rng().random(), check_pure),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_perturbation_fails(mutant):
    perturbation, check = MUTANTS[mutant]
    with pytest.raises(AssertionError, match=check.__name__):
        check(perturbation)
    with pytest.raises(AssertionError):
        testing.check_perturbation(perturbation)
