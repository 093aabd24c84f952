from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import losses
from rbjax.losses import imbalance
from rbjax.losses.adversarial import cross_entropy

LONG_TAIL = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
WEIGHTS = [0.0506, 0.0769, 0.1211, 0.195, 0.3188, 0.5246, 0.8683, 1.4426, 2.4092, 3.9927]
LOGITS = jnp.array([[0.5, 0.2, -0.1]])
COUNTS = [100, 25, 4]


def test_weights_of_long_tailed_cifar10():
    weights = imbalance.class_balanced_weights(LONG_TAIL, beta=0.9999)
    np.testing.assert_allclose(weights, WEIGHTS, atol=5e-5)
    np.testing.assert_allclose(weights.sum(), 10)


def test_beta_zero_weighs_all_classes_alike():
    np.testing.assert_array_equal(imbalance.class_balanced_weights(COUNTS, beta=0.0), [1, 1, 1])


def test_beta_one_is_the_limit():
    exact = imbalance.class_balanced_weights(COUNTS, beta=1.0)
    np.testing.assert_allclose(exact / exact[0], [1, 4, 25])
    near = imbalance.class_balanced_weights(COUNTS, beta=1 - 1e-10)
    np.testing.assert_allclose(near, exact, rtol=1e-7)


def test_class_balanced_multiplies_by_the_weight_of_the_label():
    loss = imbalance.class_balanced(COUNTS, beta=0.0)(LOGITS, jnp.array([0]))
    np.testing.assert_allclose(loss, [0.8283902], rtol=1e-6)
    labels = jnp.array([0, 2])
    logits = jnp.zeros((2, 3))
    weighted = imbalance.class_balanced(COUNTS, beta=1.0)(logits, labels)
    np.testing.assert_allclose(weighted[1] / weighted[0], 25, rtol=1e-6)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.1882680), (1, 1.8745625), (2, 4.0071439)])
def test_balanced_softmax_of_known_logits(label: int, expected: float):
    loss = imbalance.balanced_softmax(COUNTS)(LOGITS, jnp.array([label]))
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_equal_counts_leave_cross_entropy():
    loss = imbalance.balanced_softmax([7, 7, 7])(LOGITS, jnp.array([0]))
    np.testing.assert_allclose(loss, [0.8283902], rtol=1e-6)


MAKERS = [
    imbalance.class_balanced,
    imbalance.balanced_softmax,
    imbalance.logit_adjustment,
    imbalance.ldam,
    imbalance.robal,
    lambda counts: imbalance.weighted(cross_entropy, counts),
]


@pytest.mark.parametrize("maker", MAKERS)
def test_empty_class_is_refused(maker):
    with pytest.raises(ValueError, match="0 for class 1; at least 1 example"):
        maker([10, 0, 5])


@pytest.mark.parametrize("maker", MAKERS)
def test_other_number_of_classes_is_refused(maker):
    with pytest.raises(ValueError, match="class_counts has 4 classes, the logits 3"):
        maker([1, 2, 3, 4])(LOGITS, jnp.array([0]))


def test_counts_are_one_per_class():
    with pytest.raises(ValueError, match="class_counts has shape"):
        imbalance.balanced_softmax(np.ones((2, 2)))


@pytest.mark.parametrize("beta", [-0.1, 1.5, float("nan")])
def test_beta_has_a_range(beta: float):
    with pytest.raises(ValueError, match="beta"):
        imbalance.class_balanced(COUNTS, beta=beta)


def test_ldam_of_known_logits():
    """Margins (.223607, .316228, .5) of counts (100, 25, 4); the logits are s times the cosines."""
    cosines, labels = jnp.tile(LOGITS, (3, 1)), jnp.arange(3)
    for scale, expected in (
        (1.0, [0.9604164, 1.3528123, 1.8293293]),
        (30.0, [0.0963072, 18.486833, 33.000123]),
    ):
        loss = imbalance.ldam(COUNTS, max_margin=0.5, logit_scale=scale)(scale * cosines, labels)
        np.testing.assert_allclose(loss, expected, rtol=2e-6)
    plain = imbalance.ldam(COUNTS, max_margin=0.0)(cosines, labels)
    np.testing.assert_array_equal(plain, cross_entropy(cosines, labels))


def test_logit_adjustment_from_cross_entropy_to_balanced_softmax():
    logits, labels = jnp.tile(LOGITS, (3, 1)), jnp.arange(3)
    adjusted = imbalance.logit_adjustment(COUNTS)(logits, labels)
    np.testing.assert_allclose(adjusted, [0.1882680, 1.8745625, 4.0071439], rtol=1e-6)
    np.testing.assert_allclose(
        adjusted, imbalance.balanced_softmax(COUNTS)(logits, labels), rtol=1e-6
    )
    none = imbalance.logit_adjustment(COUNTS, tau=0.0)(logits, labels)
    np.testing.assert_array_equal(none, cross_entropy(logits, labels))


def test_robal_by_hand_and_its_parts():
    """tau_margin, margin, tau_prior: each alone is a loss that is known, or a formula."""
    logits, labels = 10 * jnp.tile(LOGITS, (3, 1)), jnp.arange(3)
    options = {"margin": 0.1, "tau_margin": 0.3, "tau_prior": 1.5, "logit_scale": 10.0}
    shifted = np.asarray(logits, np.float64) + 1.5 * np.log(np.array(COUNTS) / 129)
    shifted[np.arange(3), np.arange(3)] -= 10 * 0.1 + 0.3 * np.log(np.array(COUNTS) / 4)
    expected = np.log(np.exp(shifted).sum(axis=1)) - shifted.diagonal()
    np.testing.assert_allclose(
        imbalance.robal(COUNTS, **options)(logits, labels), expected, rtol=1e-5
    )
    off = {"margin": 0.0, "tau_margin": 0.0, "tau_prior": 0.0}
    np.testing.assert_array_equal(
        imbalance.robal(COUNTS, **off)(logits, labels), cross_entropy(logits, labels)
    )
    prior = imbalance.robal(COUNTS, **{**off, "tau_prior": 1.0})(logits, labels)
    np.testing.assert_array_equal(prior, imbalance.logit_adjustment(COUNTS)(logits, labels))
    even = imbalance.robal([9, 9, 9], **{**off, "margin": 0.5, "logit_scale": 30.0})
    np.testing.assert_array_equal(even(logits, labels), imbalance.ldam([9, 9, 9])(logits, labels))


def test_weights_of_mean_1_over_the_training_examples():
    loss = imbalance.weighted(cross_entropy, LONG_TAIL, beta=0.9999)
    logits = jnp.zeros((10, 10))
    weights = np.asarray(loss(logits, jnp.arange(10)) / cross_entropy(logits, jnp.arange(10)))
    np.testing.assert_allclose(weights @ LONG_TAIL / np.sum(LONG_TAIL), 1, rtol=1e-6)
    np.testing.assert_allclose(weights / weights.sum(), np.array(WEIGHTS) / 10, atol=1e-5)
    inverse = losses.create(
        "cross_entropy", class_counts=COUNTS, class_weights="inverse_frequency"
    )(jnp.zeros((3, 3)), jnp.arange(3))
    np.testing.assert_allclose(inverse / np.log(3), 129 / (3 * np.array(COUNTS)), rtol=1e-6)


def test_deferred_weights_begin_in_their_epoch():
    """Before it the loss is the plain one bit for bit; not told the epoch, the weights count."""
    options = {"class_counts": COUNTS, "class_weights": "effective_number"}
    deferred = losses.create("ldam", **options, start_epoch=3)
    plain, weighted = losses.create("ldam", class_counts=COUNTS), losses.create("ldam", **options)
    logits, labels = jnp.tile(LOGITS, (3, 1)), jnp.arange(3)
    for epoch, same in ((0, plain), (2, plain), (3, weighted), (9, weighted)):
        now = losses.at_epoch(deferred, epoch)
        np.testing.assert_array_equal(now(logits, labels), same(logits, labels))
    np.testing.assert_array_equal(deferred(logits, labels), weighted(logits, labels))
    assert np.abs(plain(logits, labels) - weighted(logits, labels)).max() > 0.1
    assert losses.at_epoch(plain, 3) is plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start_epoch": 2}, "start_epoch = 2: is that of class_weights, and there are none"),
        ({"class_weights": "inverse"}, "class_weights 'inverse' is unknown; .*'inverse_frequency'"),
        ({"class_weights": "inverse_frequency", "start_epoch": -1}, "start_epoch"),
        ({"weights_beta": 0.9}, "weights_beta = 0.9: .*, and class_weights is 'none'; leave it at"),
        (
            {"class_weights": "inverse_frequency", "weights_beta": 1.0},
            "weights_beta = 1: is that of .*, and class_weights is 'inverse_frequency'",
        ),
    ],
)
def test_class_weights_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        losses.create("cross_entropy", class_counts=COUNTS, **fields)
    with pytest.raises(ValueError, match="'class_balanced' is weighted already"):
        losses.create("class_balanced", class_counts=COUNTS, class_weights="inverse_frequency")
    with pytest.raises(ValueError, match="'inverse_frequency': needs class_counts"):
        losses.create("focal", class_weights="inverse_frequency")
