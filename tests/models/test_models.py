from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.prng import per_example

GREY = {"num_classes": 10, "image_shape": (28, 28, 1), "mean": (0.1,), "std": (0.3,)}
COLOUR = {"num_classes": 10, "image_shape": (32, 32, 3), "mean": (0.5,) * 3, "std": (0.2,) * 3}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("simple_cnn", {"widths": (8, 16)}, 24_298),
        ("simple_cnn", {"widths": (16, 32)}, 50_890),
        ("simple_cnn", {}, 110_986),
        ("mlp", {}, 269_322),
        ("mlp", {"widths": (300,)}, 238_510),
        ("lenet5", {}, 61_706),
        ("lenet_modern", {}, 198_314),
        ("lenet_no_dropout", {}, 198_314),
        ("lenet_average_pool", {}, 198_314),
        ("lenet_no_batch_norm", {}, 197_482),
        ("lenet_conv_pool", {}, 326_410),
        ("vgg_p5", {}, 1_525_738),
        ("vgg_p5", {"activation": "paper"}, 1_525_738),
        ("vgg_p5", {"width": 8}, 96_706),
    ],
)
def test_number_of_parameters(name: str, options: dict[str, Any], expected: int):
    base = COLOUR if name == "vgg_p5" else GREY
    model = models.create(name, **base, **options)
    images = jnp.zeros((1, *model.image_shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


@pytest.mark.parametrize(
    ("image_shape", "expected"), [((32, 32, 3), 62_006), ((32, 32, 1), 61_706), ((8, 8, 1), 61_706)]
)
def test_lenet5_has_its_own_size_up_to_32_pixels(image_shape: tuple[int, ...], expected: int):
    """Smaller images are set in the middle of 32x32, so they have the original's 400 features."""
    channels = image_shape[2]
    model = models.create(
        "lenet5", num_classes=10, image_shape=image_shape, mean=(0,) * channels, std=(1,) * channels
    )
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected


def test_normalisation_is_inside():
    """(x - m) / s of one model is what the other, without normalisation, gets."""
    base = {"num_classes": 3, "image_shape": (6, 6, 2), "widths": (4, 4)}
    plain = models.create("simple_cnn", **base, mean=(0, 0), std=(1, 1))
    normalised = models.create("simple_cnn", **base, mean=(0.2, 0.7), std=(0.5, 0.1))
    images = jax.random.uniform(jax.random.key(0), (2, 6, 6, 2))
    variables = plain.init(jax.random.key(1), images)
    expected = plain.apply(variables, (images - jnp.array([0.2, 0.7])) / jnp.array([0.5, 0.1]))
    np.testing.assert_allclose(normalised.apply(variables, images), expected, rtol=1e-5)


def test_mlp_refuses_channels_first():
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 32\), channels first; channels come last"):
        models.MODELS.create("mlp", {}).init(jax.random.key(0), jnp.zeros((2, 3, 32, 32)))


def test_wrong_image_shape_is_refused():
    model = models.create("simple_cnn", **GREY)
    with pytest.raises(AssertionError):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet19"}, "did you mean 'resnet18'"),
        ({"width": (8, 16)}, "no option 'width'; allowed: .*widths.*; did you mean 'widths'"),
        ({"name": "resnet18", "widths": (8, 16)}, "no option 'widths'; allowed: head"),
        ({"name": "lenet_conv_pool", "pooling": "max"}, "no option 'pooling'"),
        ({"widths": (8, 0)}, "widths is"),
        ({"widths": (8,)}, "widths is"),
        ({"widths": 8}, "widths is 8"),
        ({"name": "mlp", "widths": ()}, "allowed: positive integers, such as"),
        ({"name": "mlp", "widths": (8, 0)}, "widths is"),
        ({"name": "mlp", "widths": 8}, "widths is 8"),
        ({"name": "mlp", "image_shape": (1, 28, 28)}, "channels first;.* (N, 28, 28, 1. by"),
        ({"name": "mlp", "image_shape": (3, 32, 48)}, "channels first;.* (N, 32, 48, 3. by"),
        (
            {"name": "lenet_modern", "pooling": "mean"},
            "pooling 'mean' is unknown; allowed: max, average",
        ),
        (
            {"name": "vgg_p5", "activation": "relu"},
            "activation 'relu' is unknown; allowed: author, paper",
        ),
        ({"head": "cosinus"}, "head 'cosinus' is unknown; allowed: linear, cosine"),
        ({"head_scale": 10.0}, "head_scale is 10: belongs to a cosine head, and head is 'linear'"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"image_shape": (28, 28)}, "image_shape is"),
        ({"image_shape": (28, 0, 1)}, "image_shape is"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values; allowed: one per channel, 1"),
        ({"mean": (float("nan"),)}, "mean is"),
        ({"std": (0.0,)}, "std is"),
        ({"dtype": "float16"}, "dtype is 'float16'; allowed: float32, bfloat16"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str):
    arguments: dict[str, Any] = {"name": "simple_cnn", **GREY, **changes}
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        models.create(**arguments)


@pytest.mark.parametrize(("activation", "expected"), [("author", 5), ("paper", 9)])
def test_number_of_activations(activation: str, expected: int):
    """The authors' code leaves the first two convolutions of the last two blocks linear."""
    model = models.create("vgg_p5", **COLOUR, activation=activation)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    equations = jax.make_jaxpr(model.apply)(variables, images).eqns
    relus = [equation for equation in equations if equation.primitive.name == "custom_jvp_call"]
    assert len(relus) == expected


@pytest.mark.parametrize(
    ("name", "options", "draws"),
    [
        ("lenet_modern", {}, 3),
        ("lenet_modern", {"pool_dropout": False}, 1),
        ("lenet_modern", {"last_dropout": False}, 2),
        ("lenet_no_dropout", {}, 0),
    ],
)
def test_number_of_dropout_layers(name: str, options: dict[str, Any], draws: int):
    """The authors' "no dropout" keeps the layer at the end, ours none."""
    model = models.create(name, **GREY, **options)
    images, keys = jnp.zeros((1, 28, 28, 1)), per_example(jax.random.key(0), jnp.arange(1))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    program = str(jax.make_jaxpr(model.apply_train)(variables, images, keys))
    assert program.count("random_bits") == draws


def test_lenet_takes_other_sizes():
    model = models.create("lenet_modern", **{**GREY, "image_shape": (32, 32, 1)})
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    features = jax.eval_shape(model.features, variables, jnp.zeros((5, 32, 32, 1)))
    assert features.shape == (5, 2 * 2 * 128)


def test_cosine_head_by_hand():
    """Z = s w_c.f / ((|w_c| + gamma) |f|); of features of length 0 logits and gradient are 0."""
    base = {**GREY, "image_shape": (4, 4, 1), "widths": (6,), "head": "cosine"}
    images = jax.random.uniform(jax.random.key(0), (5, 4, 4, 1))
    model = models.create("mlp", **base, head_scale=10.0, head_gamma=0.5)
    variables = model.init(jax.random.key(1), images)
    features = np.asarray(model.features(variables, images))
    kernel = 3 * np.asarray(variables["params"]["head"]["kernel"])
    variables["params"]["head"]["kernel"] = jnp.asarray(kernel)
    cosines = features @ kernel / np.linalg.norm(features, axis=1, keepdims=True)
    expected = 10 * cosines / (np.linalg.norm(kernel, axis=0) + 0.5)
    np.testing.assert_allclose(model.apply(variables, images), expected, rtol=1e-4, atol=1e-5)
    plain = models.create("mlp", **base)
    expected = 30 * cosines / np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(plain.apply(variables, images), expected, rtol=1e-4, atol=1e-5)
    assert models.logit_scale("cosine", None) == 30.0
    silent = jax.tree.map(lambda x: 0 * x, variables["params"]["backbone"])
    silent = {"params": {**variables["params"], "backbone": silent}}
    logits, gradient = jax.value_and_grad(lambda v: plain.apply(v, images).sum())(silent)
    assert logits == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_shapes_are_those_of_the_variables():
    model = models.create("lenet_modern", **GREY)
    assert model.shapes == jax.eval_shape(model.init, jax.random.key(1), jnp.zeros((3, 28, 28, 1)))
