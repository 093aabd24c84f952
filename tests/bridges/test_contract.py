"""Every library's model, wrapped, gives the library's own logits wherever a model is taken."""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export as jax_export
from jax.tree_util import Partial
from sklearn.ensemble import RandomForestClassifier

import rbjax
from rbjax import attacks, corruptions, perturbations, rpr
from rbjax.classifier import as_classifier
from rbjax.rpr import BlackBox

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(12) % 4
FIRST = np.moveaxis(IMAGES, -1, 1)
CLASSES = 4


class Case(NamedTuple):
    """A wrapped model, what its library says of `IMAGES`, and a function that is as it is."""

    model: Any
    own: Any
    plain: Any = None


class Net(nn.Module):
    """With dropout and batch statistics, told by `train`."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(6, (3, 3))(x)))
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(CLASSES)(x)


def linen():
    net = Net()
    variables = net.init(KEY, IMAGES, train=False)
    plain = lambda images: net.apply(variables, images, train=False)
    return Case(rbjax.wrap(net, variables), plain(IMAGES), plain)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(384, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.reshape(len(x), -1)))


def nnx_module():
    net = NNXNet(nnx.Rngs(0))
    net(IMAGES)  # training mode: batch statistics move
    net.eval()
    return Case(rbjax.wrap(net), net(IMAGES), lambda images: net(images))


def equinox():
    eqx = pytest.importorskip("equinox")

    class Unhashable(eqx.Module):
        layers: list
        about: list = eqx.field(static=True)

        def __call__(self, x, *, key=None):
            for layer in self.layers:
                x = layer(x)
            return x

    keys = jax.random.split(KEY, 2)
    layers = [eqx.nn.Conv2d(3, 6, 3, padding=1, key=keys[0]), jax.nn.relu, eqx.nn.Dropout(0.5)]
    layers += [jnp.ravel, eqx.nn.Linear(384, CLASSES, key=keys[1])]
    net = Unhashable(layers, ["unhashable", {"as": "can be"}])
    still = eqx.nn.inference_mode(net)
    plain = lambda images: jax.vmap(still)(jnp.moveaxis(images, -1, 1))
    return Case(rbjax.wrap(net), jax.vmap(still)(FIRST), plain)


def equinox_with_state():
    eqx = pytest.importorskip("equinox")

    class Stateful(eqx.Module):
        norm: Any
        head: Any

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.head(x.ravel()), state

    def make(key):
        return Stateful(
            eqx.nn.BatchNorm(3, "b", mode="batch"), eqx.nn.Linear(192, CLASSES, key=key)
        )

    net, state = eqx.nn.make_with_state(make)(KEY)
    vmapped = functools.partial(jax.vmap, axis_name="b", in_axes=(0, None), out_axes=(0, None))
    _, state = vmapped(net)(FIRST, state)
    still = eqx.nn.inference_mode(net)
    plain = lambda images: vmapped(still)(jnp.moveaxis(images, -1, 1), state)[0]
    return Case(rbjax.wrap(net, state), vmapped(still)(FIRST, state)[0], plain)


def pair():
    def apply(params, state, rng, images, is_training):
        assert rng is None
        assert not is_training
        return (images.reshape(len(images), -1) - state) @ params["w"], state

    weights = {"w": jax.random.normal(KEY, (192, CLASSES))}
    model = rbjax.wrap((lambda rng: (weights, 0.5), apply), weights, 0.5)
    return Case(model, apply(weights, 0.5, None, IMAGES, False)[0])


def haiku():
    hk = pytest.importorskip("haiku")

    def forward(images, is_training):
        x = hk.Conv2D(6, 3)(images)
        x = hk.BatchNorm(True, True, 0.9)(x, is_training)
        return hk.Linear(CLASSES)(jax.nn.relu(x).reshape(len(x), -1))

    net = hk.transform_with_state(forward)
    params, state = net.init(KEY, IMAGES, True)
    _, state = net.apply(params, state, None, IMAGES, True)
    plain = lambda images: net.apply(params, state, None, images, False)[0]
    return Case(rbjax.wrap(net, params, state), plain(IMAGES), plain)


WEIGHTS = jax.random.normal(KEY, (192, CLASSES))


def linear(images):
    return images.reshape(images.shape[0], -1) @ WEIGHTS


def exported(tmp_path, order=1):
    rows = jax_export.symbolic_shape("b")[0]
    program = jax_export.export(jax.jit(linear))(jax.ShapeDtypeStruct((rows, 8, 8, 3), jnp.float32))
    (tmp_path / "model.jaxexport").write_bytes(program.serialize(vjp_order=order))
    model = rbjax.wrap(tmp_path / "model.jaxexport")
    return Case(model, linear(IMAGES), linear if order else None)


def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    library = pytest.importorskip("keras")
    if library.config.backend() != "jax":
        pytest.skip("Keras runs on another backend in this process")
    layers = library.layers
    net = library.Sequential(
        [
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    net.build((None, 8, 8, 3))
    plain = lambda images: jnp.log(net(images, training=False))
    return Case(rbjax.wrap(net), plain(IMAGES), plain)


def forest():
    net = RandomForestClassifier(20, max_depth=4, random_state=0)
    net.fit(IMAGES.reshape(12, -1), LABELS)
    own = net.predict_proba(IMAGES.reshape(12, -1))
    return Case(rbjax.wrap(net), np.log(np.maximum(own, np.finfo(np.float32).tiny)))


def torch_module():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(216, CLASSES))
    shifted = (torch.from_numpy(FIRST.copy()) - 0.5) / 0.25
    net(shifted)  # training mode: batch statistics move
    net.eval()
    with torch.no_grad():
        own = net(shifted).numpy()
    w = {name: jnp.asarray(value.numpy()) for name, value in net.state_dict().items()}

    def plain(images):
        x = jnp.moveaxis((images - 0.5) / 0.25, -1, 1)
        x = jax.lax.conv(x, w["0.weight"], (1, 1), "VALID") + w["0.bias"][:, None, None]
        scale = w["1.weight"] / jnp.sqrt(w["1.running_var"] + 1e-5)
        shift = w["1.bias"] - w["1.running_mean"] * scale
        x = jax.nn.relu(x * scale[:, None, None] + shift[:, None, None])
        return x.reshape(len(x), -1) @ w["5.weight"].T + w["5.bias"]

    return Case(rbjax.wrap(net, mean=0.5, std=(0.25, 0.25, 0.25)), own, plain)


def torch_probabilities():
    """The logarithms of softmaxes have the gradients of logits, but for a constant a row."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, CLASSES), torch.nn.Softmax(1)
    )
    linear = net[1]
    weights, bias = (jnp.asarray(w.detach().numpy()) for w in (linear.weight, linear.bias))
    plain = lambda x: jax.nn.log_softmax(
        jnp.moveaxis(x, -1, 1).reshape(len(x), -1) @ weights.T + bias
    )
    return Case(rbjax.wrap(net.eval(), outputs="probabilities"), np.array(plain(IMAGES)), plain)


def onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = linear_onnx(tmp_path / "model.onnx")
    own = runtime.InferenceSession(path).run(None, {"images": FIRST})[0]
    return Case(rbjax.wrap(path), own)


def linear_onnx(path, rows="b"):
    """Writes the product of an image, flattened, and weights."""
    library = pytest.importorskip("onnx")
    helper, numbers = library.helper, library.TensorProto.FLOAT
    weights = np.random.default_rng(1).normal(size=(192, CLASSES)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", numbers, [rows, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", numbers, [rows, CLASSES])],
        [library.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    library.save(model, path)
    return str(path)


WITH_GRADIENTS = {
    "linen": linen,
    "nnx": nnx_module,
    "equinox": equinox,
    "equinox, state": equinox_with_state,
    "pair": pair,
    "haiku": haiku,
    "keras": keras,
    "jax.export": exported,
    "torch": torch_module,
    "torch, probabilities": torch_probabilities,
    "function": lambda: Case(rbjax.wrap(linear), linear(IMAGES), linear),
    "Partial": lambda: Case(
        rbjax.wrap(Partial(lambda w, x: x.reshape(len(x), -1) @ w, WEIGHTS)), linear(IMAGES)
    ),
}
WITHOUT = {
    "scikit-learn": forest,
    "onnx": onnx,
    "jax.export without a gradient": lambda tmp_path: exported(tmp_path, order=0),
}


def made(make, tmp_path) -> Case:
    takes_folder = "tmp_path" in make.__code__.co_varnames[: make.__code__.co_argcount]
    return make(tmp_path) if takes_folder else make()


@pytest.mark.parametrize("make", WITH_GRADIENTS.values(), ids=WITH_GRADIENTS)
def test_a_model_with_gradients(make, tmp_path):
    case = made(make, tmp_path)
    said = as_classifier(case.model).logits(None, jnp.asarray(IMAGES))
    np.testing.assert_allclose(said, case.own, rtol=1e-5, atol=1e-5)
    suite = {"pgd": attacks.pgd(epsilon=0.03, num_steps=3)}
    found = attacks.run_attacks(
        *(case.model, KEY, IMAGES, LABELS), attacks=suite, keep_images=True, journal=tmp_path / "j"
    )
    np.testing.assert_array_equal(found.clean, np.argmax(case.own, axis=-1))
    outcome = found.outcomes["pgd"]
    moved: Any = outcome.images
    assert np.abs(moved - IMAGES).max() == pytest.approx(0.03, rel=1e-3)
    after = as_classifier(case.model).logits(None, jnp.asarray(moved))
    np.testing.assert_array_equal(outcome.predictions, np.argmax(after, axis=-1))
    if case.plain is not None:
        same = attacks.run_attacks(
            *(case.plain, KEY, IMAGES, LABELS), attacks=suite, keep_images=True
        )
        # A gradient near 0 may have another sign in another order of operations.
        expected: Any = same.outcomes["pgd"].images
        close = np.isclose(moved, expected, atol=1e-6)
        assert close.mean() > 0.999


@pytest.mark.parametrize("make", WITHOUT.values(), ids=WITHOUT)
def test_a_black_box(make, tmp_path):
    case = made(make, tmp_path)
    classes = np.argmax(case.own, axis=-1)
    suite = {"square": attacks.square(epsilon=0.1, num_queries=15)}
    found = attacks.run_attacks(
        *(case.model, KEY, IMAGES, classes), attacks=suite, journal=tmp_path / "j"
    )
    np.testing.assert_array_equal(found.clean, classes)
    assert np.all(found.outcomes["square"].correct <= found.clean_correct)
    shares = np.exp(case.own - case.own.max(axis=-1, keepdims=True))
    shares = (shares / shares.sum(axis=-1, keepdims=True)).max(axis=-1)
    np.testing.assert_allclose(found.clean_probability, shares, rtol=1e-4)
    noise = perturbations.gaussian_noise(sigma=1e-5)
    scores = rpr.score(
        case.model, KEY, IMAGES, classes, max_steps=2, perturbation=noise, batch_size=12
    )
    assert np.all(scores.clean_correct)
    corrupted = corruptions.run_corruptions(
        *(case.model, KEY, IMAGES, classes), profile="cifar", severities={"brightness": (1,)}
    )
    np.testing.assert_array_equal(corrupted.clean, classes)
    delta = np.full((8, 8, 3), 0.3, np.float32)
    other = attacks.evaluate_universal(case.model, IMAGES, classes, delta)
    np.testing.assert_array_equal(other.clean_predictions, classes)
    with pytest.raises(ValueError, match=r"has no gradients; it can be attacked by 'square'") as no:
        attacks.run_attacks(
            *(case.model, KEY, IMAGES, classes), attacks={"pgd": attacks.pgd(epsilon=0.1)}
        )
    assert "\n" not in str(no.value)
    if isinstance(case.model, BlackBox) and case.model.scores is not None:
        np.testing.assert_allclose(case.model.scores(IMAGES), case.own, rtol=1e-5, atol=1e-5)
