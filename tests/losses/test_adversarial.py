from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax.losses import adversarial

LOGITS = jnp.array([[3.0, 1.0, 2.0], [0.0, 4.0, -1.0], [-5.0, -7.0, -6.0]])


def test_margin_is_strongest_wrong_class_less_true_class():
    margin = adversarial.margin(LOGITS, jnp.array([0, 2, 2]))
    np.testing.assert_allclose(margin, [-1.0, 5.0, 1.0])


def test_margin_is_positive_exactly_where_misclassified():
    logits = jax.random.normal(jax.random.key(0), (200, 5))
    labels = jax.random.randint(jax.random.key(1), (200,), 0, 5)
    wrong = jnp.argmax(logits, axis=1) != labels
    assert 0 < int(wrong.sum()) < 200
    np.testing.assert_array_equal(adversarial.margin(logits, labels) > 0, wrong)


def test_margin_gradient_touches_two_classes():
    gradient = jax.grad(lambda z: adversarial.margin(z, jnp.array([0, 2, 2])).sum())(LOGITS)
    np.testing.assert_array_equal(gradient, [[-1, 0, 1], [0, 1, -1], [1, 0, -1]])


def test_cross_entropy_gradient_vanishes_where_margin_does_not():
    logits, labels = jnp.array([[200.0, 0.0]]), jnp.array([0])
    flat = jax.grad(lambda z: adversarial.cross_entropy(z, labels).sum())(logits)
    steep = jax.grad(lambda z: adversarial.margin(z, labels).sum())(logits)
    np.testing.assert_array_equal(flat, [[0, 0]])
    np.testing.assert_array_equal(steep, [[-1, 1]])


def test_two_classes():
    loss = adversarial.cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))
    np.testing.assert_allclose(loss, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(adversarial.margin(jnp.array([[1.0, 4.0]]), jnp.array([0])), [3.0])


Z = jnp.array([[3.0, 1.0, 0.0, -1.0]])


@pytest.mark.parametrize(("label", "value"), [(0, -2 / 3), (1, 2 / 3), (2, 1.0), (3, 4 / 3)])
def test_dlr_values(label, value):
    """Z = (3, 1, 0, -1): -(z_y - max of the others) / (3 - 0)."""
    for scale, shift in ((1.0, 0.0), (7.0, -2.0)):  # DLR(a z + b) = DLR(z)
        found = adversarial.dlr(scale * Z + shift, jnp.array([label]))
        assert float(found[0]) == pytest.approx(value, rel=1e-5)


def test_targeted_dlr_values():
    """(z_1 - z_0) / (3 - (0 - 1) / 2) = -2 / 3.5."""
    found = adversarial.targeted_dlr(Z, jnp.array([0]), jnp.array([1]))
    assert float(found[0]) == pytest.approx(-4 / 7, rel=1e-5)
    scaled = adversarial.targeted_dlr(5 * Z + 1, jnp.array([0]), jnp.array([1]))
    assert float(scaled[0]) == pytest.approx(-4 / 7, rel=1e-5)


def test_dlr_with_few_classes():
    with pytest.raises(ValueError, match="there are 2 classes; use 'margin'"):
        adversarial.dlr(Z[:, :2], jnp.array([0]))
    for count in (2, 3):  # the difference itself
        found = adversarial.targeted_dlr(Z[:, :count], jnp.array([0]), jnp.array([1]))
        assert float(found[0]) == pytest.approx(-2.0)


def test_dlr_sees_two_equal_logits_once_each():
    equal = jnp.array([[2.0, 2.0, 2.0, 0.0]])
    assert float(adversarial.dlr(equal, jnp.array([3]))[0]) > 1e6  # z_1 = z_3: divided by nothing
    two = jnp.array([[2.0, 2.0, 1.0, 0.0]])
    assert float(adversarial.dlr(two, jnp.array([0]))[0]) == 0.0
    assert float(adversarial.dlr(two, jnp.array([3]))[0]) == pytest.approx(2.0)


def test_probability_margin_values():
    """Of p = (0.5, 0.3, 0.2): -0.2, 0.2, 0.3; its gradient as the quotient rule has it."""
    p = np.array([0.5, 0.3, 0.2])
    logits = jnp.log(jnp.asarray(np.tile(p, (3, 1)), jnp.float32)) + 4.0
    labels = jnp.arange(3)
    found = adversarial.probability_margin(logits, labels)
    np.testing.assert_allclose(found, [-0.2, 0.2, 0.3], rtol=1e-5)
    gradient = jax.grad(lambda z: adversarial.probability_margin(z, labels).sum())(logits)
    for label, (row, value) in enumerate(zip(gradient, (-0.2, 0.2, 0.3), strict=True)):
        sign = np.zeros(3)
        sign[label] = -1
        sign[1 if label == 0 else 0] = 1
        np.testing.assert_allclose(row, p * (sign - value), rtol=1e-5, atol=1e-7)


def test_kl_values():
    """KL((0.9, 0.1) || (0.5, 0.5)) = 0.368064; of a prediction with itself 0, and flat there."""
    clean, other = jnp.log(jnp.array([[0.9, 0.1]])), jnp.zeros((1, 2))
    assert float(adversarial.kl_divergence(other, clean)[0]) == pytest.approx(0.368064, rel=1e-5)
    assert float(adversarial.kl_divergence(clean, clean)[0]) == pytest.approx(0.0, abs=1e-7)
    gradient = jax.grad(lambda z: adversarial.kl_divergence(z, clean)[0])(clean)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


def test_a_class_that_is_masked_is_in_no_loss():
    """As if it were not there, in value and gradient; with too few left the ratio is a margin."""
    logits, mask = jnp.array([[2.0, 1.0, 0.5, -1.0, 7.0]]), jnp.array([0, 0, 0, 0, -jnp.inf])
    zero, one = jnp.array([0]), jnp.array([1])
    losses = {
        "cross_entropy": lambda z: adversarial.cross_entropy(z, zero),
        "margin": lambda z: adversarial.margin(z, zero),
        "dlr": lambda z: adversarial.dlr(z, zero),
        "probability_margin": lambda z: adversarial.probability_margin(z, zero),
        "targeted_dlr": lambda z: adversarial.targeted_dlr(z, zero, one),
        "kl": lambda z: adversarial.kl_divergence(z, z[:, ::-1][:, ::-1] * 0.5),
    }

    @jax.jit
    def both(logits, mask):
        return {
            name: jax.value_and_grad(lambda z, loss=loss: loss(z + mask).sum())(logits)
            for name, loss in losses.items()
        }

    masked, plain = both(logits, mask), both(logits[:, :4], mask[:4])
    for name in losses:
        np.testing.assert_allclose(masked[name][0], plain[name][0], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(masked[name][1][:, :4], plain[name][1], rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(masked[name][1][:, 4], [0.0], err_msg=name)
    two = logits + jnp.array([0, 0, -jnp.inf, -jnp.inf, -jnp.inf])
    for ratio in (adversarial.dlr(two, zero), adversarial.targeted_dlr(two, zero, one)):
        np.testing.assert_allclose(ratio, [-1.0])
