"""Models on the host: the same draws as a JAX function's, and clear errors for wrong answers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from sklearn.linear_model import RidgeClassifier

from rbjax import attacks, data, perturbations, prng, rpr
from rbjax.black_box import BlackBox
from tests.rpr.known import KEY, LOGITS_FN, MIXED, score, threshold

ONE = jax.devices()[:1]


def answer(images):
    assert isinstance(images, np.ndarray)
    assert images.dtype == np.float32
    return np.asarray(jnp.argmax(threshold(jnp.zeros(3), images), -1))


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 7, "block_size": 50}, {"stop": rpr.Flattening(window=6, tolerance=0.01)}],
)
def test_same_scores_as_the_function(options):
    compiled = score(MIXED, **options)
    boxed = score(MIXED, logits_fn=rpr.black_box(answer), **options)
    for field in ("first_failure", "clean_correct", "max_steps", "forward_passes_needed"):
        np.testing.assert_array_equal(getattr(compiled, field), getattr(boxed, field))


def test_repetitions():
    options = {"scorer": rpr.score_repeatedly, "repetitions": 3}
    compiled = score(MIXED[:40], **options)
    boxed = score(MIXED[:40], logits_fn=rpr.black_box(answer), **options)
    np.testing.assert_array_equal(compiled.first_failure, boxed.first_failure)


def draws_with_a_tie(logits_fn, perturbation, images, ids, max_steps, tolerance=1e-5):
    """Returns (N, max_steps) bool: where the two top logits are within the tolerance."""

    @jax.jit
    def gaps(draw):
        keys = prng.per_draw(prng.per_example(KEY, ids), draw)
        top = jax.lax.top_k(logits_fn(jax.vmap(perturbation)(keys, images)), 2)[0]
        return top[:, 0] - top[:, 1] <= tolerance

    return np.stack([gaps(draw) for draw in range(1, max_steps + 1)], axis=1)


def test_a_scikit_learn_estimator_and_the_same_weights_in_jax():
    """Real digits: a difference is allowed only at a draw whose top logits tie within 1e-5."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    estimator = RidgeClassifier()
    estimator.fit(train.images.reshape(len(train.images), -1) / 255.0, train.labels)
    weights = jnp.float32(estimator.coef_.T), jnp.float32(estimator.intercept_)
    logits_fn = Partial(lambda w, b, x: x.reshape(len(x), -1) @ w + b, *weights)
    box = rpr.black_box(lambda images: estimator.predict(images.reshape(len(images), -1)))
    perturbation = perturbations.random_pixels(values="binary")
    arguments = {"max_steps": 20, "perturbation": perturbation, "example_ids": test.example_ids}
    compiled = rpr.score(logits_fn, KEY, test.images, test.labels, devices=ONE, **arguments)
    boxed = rpr.score(box, KEY, test.images, test.labels, batch_size=50, **arguments)
    images = jnp.float32(test.images) / 255
    ties = draws_with_a_tie(logits_fn, perturbation, images, test.example_ids, 20)
    differ = compiled.first_failure != boxed.first_failure
    print(f"draws with top logits within 1e-5: {ties.sum()} of {ties.size}; {differ.sum()} differ")
    assert np.all(np.any(ties, axis=1)[differ])
    assert ties.mean() < 0.001
    assert 0.1 < compiled.robust.mean() < 0.9
    np.testing.assert_array_equal(compiled.clean_correct, boxed.clean_correct)


def test_a_torch_module():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    kernel, weights = rng.normal(size=(3, 3, 1, 4)), rng.normal(size=(4, 3))
    images = rng.integers(0, 256, (60, 8, 8, 1), np.uint8)

    def logits_fn(images):
        maps = jax.lax.conv_general_dilated(
            images - 0.5, jnp.float32(kernel), (1, 1), "VALID", dimension_numbers=_NHWC
        )
        return jnp.mean(jax.nn.relu(maps), axis=(1, 2)) @ jnp.float32(weights) - centre

    centre = np.zeros(3, np.float32)
    centre = np.mean(logits_fn(jnp.float32(images) / 255), axis=0)  # so that no class has all
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
        module[4].weight.copy_(torch.tensor(weights.T))
        module[4].bias.copy_(torch.tensor(-centre))

    def predict(images):
        with torch.no_grad():
            moved = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
            return module(moved - 0.5).argmax(1).numpy()

    labels = np.asarray(jnp.argmax(logits_fn(jnp.float32(images) / 255), -1))
    perturbation = perturbations.random_pixels()
    arguments = {"max_steps": 30, "perturbation": perturbation}
    compiled = rpr.score(logits_fn, KEY, images, labels, devices=ONE, **arguments)
    boxed = rpr.score(rpr.black_box(predict), KEY, images, labels, **arguments)
    ids = np.arange(60)
    ties = draws_with_a_tie(logits_fn, perturbation, jnp.float32(images) / 255, ids, 30)
    differ = compiled.first_failure != boxed.first_failure
    print(f"draws with top logits within 1e-5: {ties.sum()} of {ties.size}; {differ.sum()} differ")
    assert np.all(np.any(ties, axis=1)[differ])
    assert 0.1 < compiled.robust.mean() < 0.9


_NHWC = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda images: np.zeros((len(images), 3), int), r"int64 of shape \(\d+, 3\)"),
        (lambda images: np.zeros(3, int), r"of shape \(3,\) for \d+ images"),
        (lambda images: np.array(["cat"] * len(images)), "it must give .* whole numbers"),
        (lambda images: np.full(len(images), 0.5), "the label 0.5; it must be a whole number"),
    ],
)
def test_wrong_answers(wrong, message):
    with pytest.raises(ValueError, match=message) as error:
        score(MIXED[:5], logits_fn=rpr.black_box(wrong))
    assert "\n" not in str(error.value)
    model, images = rpr.black_box(wrong, num_classes=3), np.zeros((5, 2, 2, 1), np.float32)
    with pytest.raises(ValueError, match=message) as error:
        attacks.evaluate_universal(model, images, np.zeros(5, int), images[0], devices=ONE)
    assert "\n" not in str(error.value)


def test_not_a_function():
    with pytest.raises(ValueError, match="predict is a ndarray; it must be a function"):
        rpr.black_box(np.zeros(3))  # pyright: ignore[reportArgumentType]
    assert score(MIXED[:3], logits_fn=LOGITS_FN).robust.shape == (3,)


class LostError(Exception):
    """What the model of a person raises."""


@pytest.mark.parametrize("devices", [ONE, None], ids=["one device", "eight"])
@pytest.mark.parametrize("part", ["logits", "gradient"])
@pytest.mark.parametrize("entry", ["run_attacks", "craft_universal", "craft_universal_deepfool"])
def test_what_a_model_raises_reaches_the_caller(entry, part, devices):
    """Within a program on several CPU devices it would end the process."""
    weights, calls = np.array([[1.0, -1.0]], np.float32), {"logits": 0, "gradient": 0}

    def counted(name, answer):
        calls[name] += 1
        if name == part and calls[name] > 3:
            raise LostError(f"the server is gone, call {calls[name]}")
        return answer

    box = BlackBox(
        lambda images: np.zeros(len(images), int),
        2,
        scores=lambda images: counted("logits", images.reshape(len(images), -1) @ weights),
        gradient=lambda images, along: counted(
            "gradient", (along @ weights.T).reshape(-1, 1, 1, 1)
        ),
    )
    images, labels = np.linspace(0, 1, 16, dtype=np.float32).reshape(16, 1, 1, 1), np.arange(16) % 2
    entries = {
        "run_attacks": lambda: attacks.run_attacks(
            box,
            KEY,
            images,
            labels,
            attacks={"pgd": attacks.pgd(epsilon=0.1, num_steps=20)},
            devices=devices,
        ),
        "craft_universal": lambda: attacks.craft_universal(
            box, KEY, images, labels, epsilon=0.1, num_epochs=9, batch_size=8, devices=devices
        ),
        "craft_universal_deepfool": lambda: attacks.craft_universal_deepfool(
            box, KEY, images, epsilon=0.1, devices=devices
        ),
    }
    with pytest.raises(LostError, match="the server is gone, call 4"):
        entries[entry]()
    assert calls[part] == 4  # nor is it asked again
