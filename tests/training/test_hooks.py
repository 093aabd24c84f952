"""What a method prepares is checked before it is trained on, and read back for the evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from rbjax.methods import Method, Prepared
from rbjax.testing.training import make_model, make_train_set
from rbjax.training import hooks


def prepare(folder: Any, **changes: Any) -> Prepared:
    method = Method(prepare=lambda key, data, model: Prepared(dataclasses.replace(data, **changes)))
    key = jax.random.key(0)
    return hooks.prepare(method, key, make_train_set(), make_model(), folder, has_begun=False)


def test_what_was_prepared_is_what_was_trained_on(tmp_path):
    data = make_train_set()
    assert hooks.trained_on(tmp_path, data) is data
    prepare(tmp_path, images=255 - data.images)
    np.testing.assert_array_equal(hooks.trained_on(tmp_path, data).images, 255 - data.images)
    (tmp_path / hooks.PREPARED_FILE).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"prepared.npz: is missing or damaged"):
        hooks.trained_on(tmp_path, data)


def test_groups_stay_where_nothing_was_prepared(tmp_path):
    """Also where the run is taken up, and evaluated: the same images of those are chosen."""
    data = dataclasses.replace(make_train_set(), groups=np.arange(24) // 4)
    method = Method(prepare=lambda key, data, model: Prepared())
    key, model = jax.random.key(0), make_model()
    for has_begun in (False, True):
        prepared = hooks.prepare(method, key, data, model, tmp_path, has_begun=has_begun)
        assert prepared.train_set is data
    assert hooks.trained_on(tmp_path, data) is data
    prepare(tmp_path, images=255 - data.images)
    assert hooks.trained_on(tmp_path, data).groups is None  # of other examples


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": np.zeros((24, 8, 8, 1))}, "images are float64 of shape"),
        ({"images": np.zeros((24, 8, 8, 3), np.uint8)}, r"must be .* of shape \(24, 8, 8, 1\)"),
        ({"images": np.zeros((23, 8, 8, 1), np.uint8)}, r"of shape \(24, 8, 8, 1\)"),
        ({"labels": np.full(24, 3, np.int32)}, "labels holds 3; allowed: 0 to 2"),
        ({"labels": np.zeros(24)}, "labels has dtype float64; it must hold whole numbers"),
        ({"example_ids": np.arange(3)}, r"example_ids has shape \(3,\); it must be \(24,\)"),
    ],
)
def test_a_training_set_that_does_not_fit_is_refused(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=f"the method's prepare (returned|failed).*{reason}"):
        prepare(tmp_path, **changes)
    assert not (tmp_path / hooks.PREPARED_FILE).exists()
