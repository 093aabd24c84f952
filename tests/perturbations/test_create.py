from __future__ import annotations

import inspect
import itertools

import jax
import numpy as np
import pytest

from rbjax import perturbations
from rbjax.config import GROUPS

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(jax.random.key(1), (8, 8, 3))


def test_names_joined_by_plus_are_a_chain():
    by_name = perturbations.create("rotation+gaussian_noise", max_degrees=30, sigma=0.2)
    chain = perturbations.compose(
        perturbations.rotation(max_degrees=30), perturbations.gaussian_noise(sigma=0.2)
    )
    assert by_name == chain
    np.testing.assert_array_equal(by_name(KEY, IMAGE), chain(KEY, IMAGE))
    assert by_name != perturbations.create("gaussian_noise+rotation", max_degrees=30, sigma=0.2)


def test_one_name_is_that_perturbation():
    assert perturbations.create("fog", thickness=1.0) == perturbations.fog(thickness=1.0)


def test_an_option_goes_to_every_member_that_has_it():
    twice = perturbations.create("shift+fog+shift", max_shift=1.0)
    shift = perturbations.shift(max_shift=1.0)
    assert twice == perturbations.compose(shift, perturbations.fog(), shift)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fog+rainn", {}, "perturbation 'rainn' is unknown; .*did you mean 'rain'"),
        ("fog+", {}, "perturbation '' is unknown"),
        ("fog+rain", {"opacty": 0.1}, r"'fog\+rain' has no option 'opacty'.*mean 'opacity'"),
        ("fog+rain", {"sigma": 0.1}, "no option 'sigma'; allowed: thickness, decay, rainfall"),
        ("fog+rain", {"opacity": 3.0}, "opacity is 3.0"),
    ],
)
def test_wrong_chains(name, options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create(name, **options)


def test_no_two_schemes_share_an_option():
    """In a chain each option has one meaning."""
    makers = perturbations.PERTURBATIONS.values()
    for one, other in itertools.combinations(makers, 2):
        assert not set(inspect.signature(one).parameters) & set(inspect.signature(other).parameters)


def test_the_config_has_every_option_with_its_default():
    group = GROUPS["score"]
    fields = {key: f.default for key, f in group.every().items() if key not in group.own}
    found = {}
    for maker in perturbations.PERTURBATIONS.values():
        for option, parameter in inspect.signature(maker).parameters.items():
            found[option] = parameter.default
    assert fields == found
