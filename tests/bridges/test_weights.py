"""A wrapped model is asked with its weights of the moment, and a journal tells weights apart."""

from __future__ import annotations

import pickle
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from rbjax import attacks, wrap

KEY = jax.random.key(0)
DIGITS: Any = load_digits()
IMAGES = np.float32(DIGITS.images[:20, ..., None] / 16)
LABELS = DIGITS.target[:20]
ASKED = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)


class Mean(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.mean((1, 2)))


def test_new_weights_are_used():
    """One that answers always 1 answers always 2 after its update, in the same wrapper."""
    layer: Any = nnx.Linear(64, 3, rngs=nnx.Rngs(0))
    model = nnx.Sequential(lambda images: images.reshape(len(images), -1), layer)
    wrapped = wrap(model)
    net, biases = Mean(), np.eye(3, dtype=np.float32)
    kernel = np.zeros((1, 3), np.float32)
    suite = {"fgsm": attacks.fgsm(epsilon=0.1)}
    layer.kernel[...] = np.zeros((64, 3), np.float32)
    for answer in (1, 2):
        layer.bias[...] = biases[answer]
        linen = wrap(net, {"params": {"Dense_0": {"kernel": kernel, "bias": biases[answer]}}})
        for one in (wrapped, linen):
            found = attacks.run_attacks(one, KEY, IMAGES, LABELS % 3, attacks=suite)
            np.testing.assert_array_equal(found.clean, answer)
            np.testing.assert_array_equal(found.outcomes["fgsm"].predictions, answer)


def tree(first):
    rows = slice(first, first + 300)
    return DecisionTreeClassifier(random_state=0).fit(DIGITS.data[rows], DIGITS.target[rows])


def test_a_journal_tells_trees_apart(tmp_path):
    """They agree on images of noise, and not on digits."""
    trees = [tree(first) for first in (0, 300, 600)]
    known = [wrap(one, std=1 / 16).identity(ASKED) for one in trees]
    assert len(set(known)) == 3
    reread = pickle.loads(pickle.dumps(trees[0]))
    assert {wrap(one, std=1 / 16).identity(ASKED) for one in (reread, tree(0))} == {known[0]}
    assert wrap(trees[0]).identity(ASKED) != known[0]
    suite = {"square": attacks.square(epsilon=0.1, num_queries=2)}
    first, second = (wrap(one, std=1 / 16) for one in trees[:2])
    data: Any = KEY, IMAGES, LABELS
    kept = attacks.run_attacks(first, *data, attacks=suite, journal=tmp_path)
    again = attacks.run_attacks(first, *data, attacks=suite, journal=tmp_path)
    np.testing.assert_array_equal(kept.clean, again.clean)
    with pytest.raises(ValueError, match="belongs to a run with model = "):
        attacks.run_attacks(second, *data, attacks=suite, journal=tmp_path)


def test_a_journal_asks_for_what_it_cannot_know():
    unpickled = make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression())
    unpickled.fit(DIGITS.data[:50], DIGITS.target[:50])
    message = r"what the estimator does cannot be known; give wrap\(model, fingerprint=...\)"
    with pytest.raises(ValueError, match=message):
        wrap(unpickled).identity(ASKED)
    named = [wrap(unpickled, fingerprint=name).identity(ASKED) for name in ("a", "b", "a")]
    assert named[0] == named[2] != named[1]


def test_a_journal_knows_torch():
    """By weights, by buffers that are not saved, and by numbers and tensors of the module."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shift, self.layer = 1.0, torch.zeros(1), torch.nn.Linear(64, 10)
            self.register_buffer("mean", torch.zeros(1), persistent=False)

        def forward(self, images):
            return self.layer(images.flatten(1) * self.scale + self.shift - self.mean)

    torch.manual_seed(0)
    net = Net().eval()
    model = wrap(net)

    def changed(change):
        before = model.identity(ASKED)
        change()
        return model.identity(ASKED) != before

    assert not changed(lambda: net(torch.zeros(1, 1, 8, 8)))
    assert changed(lambda: net.layer.bias.data.add_(1e-6))
    assert changed(lambda: net.mean.add_(1))
    assert changed(lambda: net.shift.add_(1))
    assert changed(lambda: setattr(net, "scale", 2.0))
    assert changed(lambda: net.to(torch.bfloat16))
    assert len({wrap(net, std=std).identity(ASKED) for std in (1.0, 0.5)}) == 2


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_digest_of_keras(monkeypatch):
    """It is that of layers and weights, whatever Keras named them."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    from rbjax.bridges.keras import _digest

    def make(bias, activation="relu"):
        head = keras.layers.Dense(10, activation, kernel_initializer="ones")
        net = keras.Sequential([keras.layers.Flatten(), keras.Sequential([head])])
        net.build((None, 8, 8, 1))
        head.bias.assign(np.full(10, bias))
        return _digest(net, keras)

    assert make(0) == make(0)
    assert len({make(0), make(1), make(0, "softmax")}) == 3


def linear_onnx(path, scale, beside):
    """Writes a product, behind outputs of other shapes; its weights in a file beside it."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.full((64, 10), scale, np.float32)
    shapes = {"first": ["b"], "rows": ["b", 8, 8, 1], "found": ["b", 10]}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["first"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Identity", ["images"], ["rows"]),
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["found"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", numbers, ["b", 8, 8, 1])],
        [helper.make_tensor_value_info(name, numbers, shape) for name, shape in shapes.items()],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir()
    options = {"location": "model.data", "size_threshold": 0} if beside else {}
    onnx.save(model, path, save_as_external_data=beside, **options)
    return path


@pytest.mark.parametrize("beside", [False, True])
def test_a_journal_knows_onnx(tmp_path, beside):
    pytest.importorskip("onnxruntime")
    paths = [
        linear_onnx(tmp_path / str(number) / "model.onnx", scale, beside)
        for number, scale in enumerate((1, 1, 2))
    ]
    models = [wrap(path, channels="last") for path in paths]
    known = [model.identity(ASKED) for model in models]
    assert known[0] == known[1] != known[2]
    sums = IMAGES.sum((1, 2))
    np.testing.assert_allclose(models[2].scores(IMAGES), np.repeat(2 * sums, 10, 1), rtol=1e-5)
    if beside:
        assert paths[0].read_bytes() == paths[2].read_bytes()
