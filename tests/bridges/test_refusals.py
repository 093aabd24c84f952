"""What a person meets who wraps the wrong thing: one line that says what to do instead."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rbjax import attacks, wrap
from rbjax.classifier import as_classifier

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((6, 4, 4, 3)).astype(np.float32)
ROWS = IMAGES.reshape(6, -1)


def linear(images):
    return images.reshape(len(images), -1)[:, :3]


class Dropping(nnx.Module):
    def __init__(self):
        self.layers = nnx.List([nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5)])

    def __call__(self, images):
        for layer in self.layers:
            images = layer(images)
        return linear(images)


def evaluating():
    net = Dropping()
    net.eval()
    return net


class Needy(nn.Module):
    def __call__(self, images, temperature):
        return linear(images) / temperature


class Conv(nn.Module):
    """Takes (3, 4, 4)."""

    @nn.compact
    def __call__(self, images):
        assert images.shape[1:] == (3, 4, 4), "is of another layout"
        return linear(images)


def write(path, shape, order=1):
    program = jax_export.export(jax.jit(linear))(jax.ShapeDtypeStruct(shape, jnp.float32))
    path.write_bytes(program.serialize(vjp_order=order))
    return path


def test_at_once(tmp_path):
    unfitted = RandomForestClassifier()
    (tmp_path / "other").write_bytes(b"no program")
    refused = [
        ((nn.Dense(3),), "the Linen module Dense comes with nothing beside it; give wrap(module, "),
        ((nn.Dense(3), 1, 2), "comes with an int, an int beside it"),
        ((Needy(), {}), "is also called with temperature; wrap a function of the images"),
        ((Dropping(),), r"the NNX module is in training mode: layers.0 \(BatchNorm\) normalises"),
        ((evaluating(), 1), "the NNX module holds its own weights"),
        ((unfitted,), "the estimator RandomForestClassifier is not fitted; call fit"),
        ((make_pipeline(StandardScaler(), SVC()),), "the estimator Pipeline is not fitted"),
        ((LinearRegression(),), "the estimator LinearRegression is no classifier"),
        (
            ((len, lambda params, state, x: x), 1),
            r"\(params, state, x\), and wrap with 1 .* state\)",
        ),
        ((tmp_path / "none",), "none': No such file"),
        ((tmp_path / "none.onnx",), "there is no such file"),
        ((tmp_path / "other",), "other': is no program of jax.export"),
        ((write(tmp_path / "flat", (2, 48)),), r"program takes f32\[2,48\]; .* images alone"),
        ((Dropping().eval(),), r"model is None; NNX's model.eval\(\) returns nothing"),
        ((17,), "model is an int, which wrap does not know; allowed: a model of Flax"),
    ]
    for arguments, message in refused:
        message = message.replace("wrap(module, ", r"wrap\(module, ")
        with pytest.raises(ValueError, match=message) as error:
            wrap(*arguments)
        assert "\n" not in str(error.value)
    options = [
        ({"channels": "NHWC"}, "channels is 'NHWC'; allowed: first, last"),
        ({"outputs": "softmax"}, "outputs is 'softmax'; allowed: logits, probabilities"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"std": 0.0}, "std is 0.0"),
        ({"mean": ()}, r"mean is \(\); it must be a number, or one a channel"),
        ({"mean": "0.5"}, "mean is '0.5'; it must be a number"),
        ({"mean": np.array([0.5, np.nan])}, "mean is nan"),
        ({"fingerprint": "a"}, "fingerprint is 'a'; the function is known by its program"),
        ({"fingerprint": 3}, "fingerprint is 3; it must be a text"),
    ]
    for option, message in options:
        with pytest.raises(ValueError, match=message):
            wrap(linear, **option)


def test_with_certain_images(tmp_path):
    eight = wrap(write(tmp_path / "eight", (8, 4, 4, 3)))
    net = evaluating()
    evaluated = wrap(net)
    refused = [
        (
            wrap(linear, num_classes=10),
            r"the function gives shape \(6, 3\) .* it must be \(6, 10\)",
        ),
        (wrap(lambda images: images), r"function gives shape \(6, 4, 4, 3\) .* \(6, num_classes\)"),
        (wrap(linear, mean=(0.5, 0.5)), r"mean has 2 numbers; images of shape \(4, 4, 3\) have 3"),
        (wrap(lambda images: (images, images)), "the function returns a tuple; it must return"),
        (wrap(Conv(), {}), r"fails with images as \(4, 4, 3\); it takes them with channels=.first"),
        (
            wrap(lambda images: images @ jnp.ones((7, 3)), channels="first"),
            r"fails with images as \(3, 4, 4",
        ),
        (eight, "takes 8 images at once and is given 6; export it for any number"),
    ]
    for model, message in refused:
        for call in (model, lambda images, model=model: ask(model, images)):
            with pytest.raises(ValueError, match=message) as error:
                call(IMAGES)
            assert "\n" not in str(error.value)
    ask(evaluated, IMAGES)
    net.train()
    with pytest.raises(ValueError, match="the NNX module is in training mode"):
        ask(evaluated, IMAGES)


def ask(model, images):
    return as_classifier(model).count_classes(images)


def test_means_of_arrays():
    expected = wrap(linear, mean=(0.1, 0.2, 0.3))(IMAGES)
    mean = np.array([0.1, 0.2, 0.3])
    for given in (mean, jnp.asarray(mean), mean.reshape(1, 1, 1, 3), list(mean)):
        np.testing.assert_allclose(wrap(linear, mean=given)(IMAGES), expected, atol=1e-6)


def test_a_class_is_no_model():
    with pytest.raises(ValueError, match="the class RandomForestClassifier; give a model of it"):
        wrap(RandomForestClassifier)


def test_estimators():
    labels = np.arange(6) % 3
    # A number keeps its place, and what is never answered has no logit.
    box = wrap(RandomForestClassifier(5, random_state=0).fit(ROWS, labels + 2))
    assert box.num_classes == 5
    with pytest.raises(ValueError, match=r"num_classes is 7; the estimator has 5 classes"):
        wrap(RandomForestClassifier(5).fit(ROWS, labels + 2), num_classes=7)
    np.testing.assert_array_equal(np.isinf(box.scores(IMAGES)), [[True, True] + 3 * [False]] * 6)
    # So it does if it is a float.
    tree = RandomForestClassifier(1, bootstrap=False, random_state=0)
    numbered = wrap(tree.fit(ROWS, labels + 1.0))
    assert numbered.num_classes == 4
    np.testing.assert_array_equal(numbered.labels(IMAGES), labels + 1)
    pairs = SVC(decision_function_shape="ovo").fit(ROWS, labels)
    for one in (pairs, make_pipeline(StandardScaler(), pairs).fit(ROWS, labels)):
        with pytest.raises(ValueError, match=r"SVC has .* 'ovo', .* set_params"):
            wrap(one)
    wrap(pairs.set_params(decision_function_shape="ovr"))
    named = SVC().fit(ROWS, np.array(["cat", "dog", "ant"])[labels])
    box = wrap(named)
    np.testing.assert_array_equal(named.classes_[box.labels(IMAGES)], named.predict(ROWS))
    # Scores of one number are the second class's; of no numbers, the answer alone.
    two = RidgeClassifier().fit(ROWS, labels > 0)
    decided = two.decision_function(ROWS)
    np.testing.assert_allclose(wrap(two).scores(IMAGES), np.stack([0 * decided, decided], 1))
    # What SVC decides by is not always what it scores.
    voting = SVC(break_ties=False).fit(ROWS, labels)
    voting.predict = lambda rows: np.full(len(rows), 2)
    np.testing.assert_array_equal(np.argmax(wrap(voting).scores(IMAGES), axis=1), 2)
    scaled = wrap(LogisticRegression().fit(16 * ROWS, labels), std=1 / 16)
    own = LogisticRegression().fit(16 * ROWS, labels).predict_proba(16 * ROWS)
    np.testing.assert_allclose(np.exp(scaled.scores(IMAGES)), own, rtol=1e-4)
    for call in (box.labels, lambda images: ask(box, images)):
        with pytest.raises(
            ValueError, match=r"was fitted on 48 numbers a row; .* \(4, 4, 1\) has 16"
        ):
            call(IMAGES[..., :1])
    with pytest.raises(ValueError, match="outputs is 'logits'; the estimator says itself"):
        wrap(named, outputs="logits")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(), torch.nn.Flatten())
    with pytest.raises(ValueError, match=r"in training mode: itself \(Sequential\); call"):
        wrap(net)
    net.eval()
    net[1].train()
    with pytest.raises(ValueError, match=r"in training mode: 1 \(Dropout\); call module.eval"):
        wrap(net)
    net.eval()
    for one in (
        functional(torch),
        torch.jit.trace(functional(torch).train(), torch.zeros(1, 3, 4, 4), check_trace=False),
        torch.nn.Sequential(torch.nn.RReLU()),
    ):
        with pytest.raises(ValueError, match="in training mode: itself"):
            wrap(one)
    for model, message in (
        (wrap(net, channels="last"), r"fails with images as \(4, 4, 3\); .*channels=.first"),
        (wrap(net, num_classes=10), r"gives shape \(1, 16\) for 1 images"),
        (wrap(net[0]), r"gives shape \(1, 4, 2, 2\) for 1 images; it must be \(1, num_classes\)"),
        (wrap(torch.nn.Flatten(0).eval()), r"gives shape \(48,\) for 1 images"),
        (wrap(torch.nn.Sequential(net, torch.nn.Softmax(1)).eval()), "give outputs=.probabilities"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            attacks.fgsm(epsilon=0.1)(model, KEY, jnp.asarray(IMAGES), jnp.zeros(6, int))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"model is a torch\.Tensor; give the torch.nn.Module"):
        wrap(torch.zeros(3))


def functional(torch: Any) -> Any:
    """Returns a module that drops out by a function, of no layer's name."""

    class Functional(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.dropout(images.flatten(1), 0.5, self.training)

    return Functional()


def test_torch_gradients():
    """One that fails is one line; what a module keeps of a call does not spoil the next one."""
    torch = pytest.importorskip("torch")

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, *cotangents):
            raise RuntimeError("no kernel image is available")

    class Net(torch.nn.Module):
        def __init__(self, fails):
            super().__init__()
            self.fails, self.kept = fails, None

        def forward(self, images):
            if self.kept is None:
                self.kept = torch.ones(1)
            x = images.flatten(1)[:, :3] * self.kept
            return Failing.apply(x) if self.fails else x

    data = KEY, IMAGES, np.zeros(6, int)
    options: Any = {"attacks": {"fgsm": attacks.fgsm(epsilon=0.1)}, "devices": jax.devices()[:1]}
    attacks.run_attacks(wrap(Net(False).eval()), *data, **options)
    message = r"fails in its gradient with images as \(3, 4, 4\): RuntimeError: no kernel image"
    with pytest.raises(ValueError, match=message) as error:
        attacks.run_attacks(wrap(Net(True).eval()), *data, **options)
    assert "\n" not in str(error.value)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    net = eqx.nn.Sequential([eqx.nn.Conv2d(4, 3, 2, key=KEY), eqx.nn.Lambda(jnp.ravel)])
    with pytest.raises(
        ValueError, match=r"images as \(3, 4, 4\); it takes them with channels=.last"
    ):
        wrap(net)(jnp.asarray(IMAGES))


def test_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    with pytest.raises(ValueError, match="has no weights yet"):
        wrap(keras.Sequential([keras.layers.Dense(3)]))
