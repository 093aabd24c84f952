"""The deep networks: parameters, shapes and least sizes (traced, not compiled), and parts."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.models.densenet import DenseNet
from rbjax.models.googlenet import GoogLeNet
from rbjax.models.inception import InceptionV3
from rbjax.models.layers import (
    Layers,
    adaptive_average,
    average_pool,
    global_average,
    max_pool,
)
from rbjax.models.model import Classifier
from rbjax.models.preact_resnet import PreActResNet
from rbjax.models.resnet import Block, ResNet
from rbjax.models.squeezenet import SqueezeNet
from rbjax.models.vgg import VGG
from rbjax.models.wide_resnet import WideResNet
from rbjax.prng import per_example

KEY, IDS = jax.random.key(0), jnp.arange(4)
IMAGENET = {"form": "imagenet"}
ZEROS = {"shortcut": "zeros"}
# The reference sheet's (of the authors' code), 32x32x3 images of 10 classes.
CIFAR_COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("vgg16_bn", {}, 14_728_266),
    ("vgg19_bn", {}, 20_040_522),
    ("resnet18", {}, 11_173_962),
    ("resnet34", {}, 21_282_122),
    ("resnet50", {}, 23_520_842),
    ("resnet50", IMAGENET, 23_528_522),
    ("resnet32", {}, 464_154),
    ("resnet32", {"head": "cosine"}, 464_144),
    ("preact_resnet18", {}, 11_171_146),
    ("wide_resnet", {}, 2_243_546),
    ("wide_resnet", {"depth": 16, "widen_factor": 4}, 2_748_890),
    ("wide_resnet", {"depth": 16, "widen_factor": 8}, 10_961_370),
    ("wide_resnet_28_10", {}, 36_479_194),
    ("wide_resnet_34_10", {}, 46_160_474),
    ("densenet121", {}, 6_956_298),
    ("densenet121", IMAGENET, 6_964_106),
    ("densenet169", {}, 12_493_322),
    ("densenet169", IMAGENET, 12_501_130),
    ("densenet201", {}, 18_104_330),
    ("googlenet", {}, 6_166_250),
    ("googlenet", {"stem": "triple"}, 6_310_314),
    ("inception_v3", {}, 22_133_738),
    ("squeezenet", {}, 734_986),
    ("squeezenet", IMAGENET, 740_554),
    ("squeezenet", {**IMAGENET, "version": "1.1"}, 727_626),
]
# torchvision's, of its weights for ImageNet.
IMAGENET_COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("vgg16", {}, 138_357_544),
    ("vgg16_bn", {}, 138_365_992),
    ("vgg19", {}, 143_667_240),
    ("vgg19_bn", {}, 143_678_248),
    ("resnet18", {}, 11_689_512),
    ("resnet34", {}, 21_797_672),
    ("resnet50", {}, 25_557_032),
    ("densenet121", {}, 7_978_856),
    ("densenet169", {}, 14_149_480),
    ("densenet201", {}, 20_013_928),
    ("inception_v3", {}, 27_161_264 - 3_326_696),  # without the auxiliary classifier
    ("squeezenet", {}, 1_248_424),
    ("squeezenet", {"version": "1.1"}, 1_235_496),
]


def check(name: str, size: int, num_classes: int, expected: int, **options: Any) -> None:
    """Checks the number of parameters, and what a forward pass gives."""
    model = models.create(
        name,
        num_classes=num_classes,
        image_shape=(size, size, 3),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        **options,
    )
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    assert isinstance(model.module, Classifier)
    both = functools.partial(model.module.init_with_output, method="with_features")
    (logits, features), variables = jax.eval_shape(both, KEY, images)  # of one trace
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    assert (logits.shape, logits.dtype) == ((2, num_classes), jnp.float32)
    assert (features.ndim, features.dtype) == (2, jnp.float32)


@pytest.mark.parametrize(("name", "options", "expected"), CIFAR_COUNTS)
def test_parameters_on_cifar(name: str, options: dict[str, Any], expected: int):
    check(name, 32, 10, expected, **options)


@pytest.mark.parametrize(("name", "options", "expected"), IMAGENET_COUNTS)
def test_parameters_on_imagenet(name: str, options: dict[str, Any], expected: int):
    size = 299 if name == "inception_v3" else 224
    check(name, size, 1000, expected, form="imagenet", **options)


def test_long_tailed_resnet_on_cifar100():
    check("resnet32", 32, 100, 470_004)
    check("resnet32", 32, 100, 469_904, head="cosine")


def test_options_that_change_the_parameters():
    check("preact_resnet18", 32, 10, 11_171_146 + 2 * 512, final_norm=True)
    check("resnet18", 32, 10, 11_173_962 - 64 * 128 - 128 * 256 - 256 * 512 - 2 * 896, **ZEROS)


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        ("wide_resnet", {"depth": 30}, r"depth is 30; allowed: 6 n \+ 4, such as 16, 28"),
        ("resnet50", {"form": "image_net"}, "form 'image_net' is unknown; .* mean 'imagenet'"),
        ("squeezenet", {"version": "1.2"}, "version '1.2' is unknown; allowed: 1.0, 1.1"),
        (
            "squeezenet",
            {"version": "1.1"},
            "version is '1.1': belongs to form 'imagenet', and form",
        ),
        ("googlenet", {"width_multiplier": 0.0}, "width_multiplier is 0"),
        (ResNet, {"blocks": (2, 2.5)}, r"blocks is \(2, 2.5\); allowed: positive integers"),
        (VGG, {"blocks": ()}, r"blocks is \(\); allowed: positive integers"),
    ],
)
def test_wrong_options_are_named(maker: Any, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        models.create(maker, num_classes=2, image_shape=(32, 32, 1), mean=(0,), std=(1,), **options)


# ---------------------------------------------------------------- sizes

LEAST: list[tuple[Any, dict[str, Any], int]] = [
    ("simple_cnn", {}, 6),
    ("lenet_modern", {}, 25),
    ("vgg_p5", {}, 8),
    (VGG, {"width": 1, "blocks": (1, 1, 1, 1, 1)}, 32),
    (VGG, {"width": 1, "blocks": (1, 1, 1, 1, 1), **IMAGENET}, 32),
    ("resnet18", {}, 1),
    ("resnet18", IMAGENET, 1),
    ("resnet32", {}, 1),
    ("preact_resnet18", {}, 1),
    ("wide_resnet", {"depth": 10}, 1),
    (DenseNet, {"blocks": (1, 1, 1, 1)}, 8),
    (DenseNet, {"blocks": (1, 1, 1, 1), **IMAGENET}, 29),
    ("googlenet", {}, 1),
    ("googlenet", {"stem": "triple"}, 1),
    ("inception_v3", {}, 9),
    ("inception_v3", IMAGENET, 75),
    ("squeezenet", {}, 8),
    ("squeezenet", IMAGENET, 21),
    ("squeezenet", {**IMAGENET, "version": "1.1"}, 17),
]


@pytest.mark.parametrize(("maker", "options", "least"), LEAST)
def test_least_size_is_the_smallest_that_leaves_a_pixel(
    maker: Any, options: dict[str, Any], least: int
):
    create = functools.partial(
        models.create, maker, num_classes=2, mean=(0.5,), std=(0.5,), **options
    )
    assert create(image_shape=(least, least, 1)).image_shape == (least, least, 1)
    backbone = models.MODELS.create(maker, options)
    assert not runs_out(backbone, least)
    if least > 1:
        assert runs_out(backbone, least - 1)
        message = f"image_shape is .* needs {least} x {least} or more"
        with pytest.raises(ValueError, match=message):
            create(image_shape=(least - 1, least + 9, 1))


def runs_out(backbone: Any, size: int) -> bool:
    """Whether a map on the way has no pixel."""
    classifier = Classifier(backbone, 2, (0.5,), (0.5,), jnp.dtype("float32"))
    try:
        program: Any = jax.make_jaxpr(classifier.init)(KEY, jnp.zeros((1, size, size, 1)))
    except (ValueError, TypeError, ZeroDivisionError):
        return True
    return any(0 in var.aval.shape for step in program.eqns for var in step.outvars)


# ---------------------------------------------------------------- memory

REMAT: list[tuple[Any, dict[str, Any]]] = [
    (VGG, {"width": 2, "blocks": (1, 1)}),
    (ResNet, {"width": 2, "blocks": (1, 1)}),
    (PreActResNet, {"width": 2, "blocks": (1, 1)}),
    (WideResNet, {"depth": 10, "widen_factor": 1, "dropout": 0.3}),
    (DenseNet, {"growth_rate": 2, "blocks": (2, 1)}),
    (GoogLeNet, {"width_multiplier": 0.01}),
    (InceptionV3, {"width_multiplier": 0.01}),
    (SqueezeNet, {"width_multiplier": 0.01}),
]


@pytest.mark.parametrize(("maker", "options"), REMAT)
def test_remat_computes_again_with_the_same_parameters(maker: Any, options: dict[str, Any]):
    plain, images = small(maker, **options, remat=False)
    program, shapes = jax.make_jaxpr(plain.init, return_shape=True)(KEY, images)
    assert "remat" not in str(program)
    again, _ = small(maker, **options, remat=True)
    assert jax.eval_shape(again.init, KEY, images) == shapes
    assert "remat" in str(jax.make_jaxpr(again.apply)(shapes, images))


@pytest.mark.parametrize("place", [3, 4])
def test_remat_changes_no_number(place: int):
    """Logits, statistics and gradients, with dropout and with layers that see many maps."""
    maker, options = REMAT[place]
    results = []
    for remat in (False, True):
        model, images = small(maker, **options, remat=remat)

        def loss(variables: Any, model: Any = model, images: Any = images):
            logits, statistics = model.apply_train(variables, images, per_example(KEY, IDS))
            return (logits**2).sum(), statistics

        variables = waves(jax.eval_shape(model.init, KEY, images))
        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(variables))
    for plain, again in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-4, atol=1e-5)


def waves(shapes: Any) -> Any:
    """Returns weights of that shape, which need no compilation."""
    return jax.tree.map(
        lambda leaf: 0.5 + 0.4 * np.cos(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape),
        shapes,
    )


def small(maker: Any, **options: Any) -> tuple[models.Model, jax.Array]:
    model = models.create(
        maker, num_classes=3, image_shape=(10, 10, 1), mean=(0.5,), std=(0.3,), **options
    )
    return model, jax.random.uniform(KEY, (4, 10, 10, 1))


# ---------------------------------------------------------------- parts

LAYERS = Layers(train=False, dtype=jnp.dtype("float32"), axis_name=None)


def rows(*values: float) -> jax.Array:
    """One image, one channel, one row."""
    return jnp.asarray(values)[None, None, :, None]


def test_a_strided_convolution_is_padded_alike_on_both_sides():
    """XLA's "SAME" pads 3x3 of stride 2 on an even size at the end only."""
    image = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
    conv = LAYERS.conv(1, 3, stride=2, name="conv")
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
    (made,) = np.asarray(conv.apply({"params": {"kernel": kernel}}, image))[..., 0]
    np.testing.assert_array_equal(made, [[0, 0], [0, 6]])


def test_a_pool_counts_the_last_window_where_asked():
    pool = functools.partial(max_pool, size=3, stride=2, padding=1)
    column = jnp.moveaxis(rows(-3, -1, -4, -2, -9), 1, 2)
    tall = jnp.broadcast_to(column, (1, 5, 5, 1))
    np.testing.assert_array_equal(pool(tall)[0, :, 0, 0], [-1, -1, -2])
    square = jnp.broadcast_to(rows(1, 2, 3, 4, 5, 6), (1, 6, 6, 1))
    np.testing.assert_array_equal(max_pool(square, 3, 2)[0, 0, :, 0], [3, 5])
    partial = max_pool(square, 3, 2, is_partial=True)
    assert partial.shape == (1, 3, 3, 1)
    np.testing.assert_array_equal(partial[0, 0, :, 0], [3, 5, 6])
    odd = max_pool(square[:, :5, :5], 3, 2, is_partial=True)
    np.testing.assert_array_equal(odd[0, 0, :, 0], [3, 5])


def test_an_average_counts_the_zeros_of_its_padding():
    ones = jnp.ones((1, 3, 3, 1))
    averages = average_pool(ones, 3, 1, padding=1)[0, ..., 0]
    np.testing.assert_allclose(averages[1], [6 / 9, 1, 6 / 9])


def test_a_global_average_of_bfloat16_is_float32():
    """Of 255 ones and a 2, which bfloat16 would round to 1."""
    values = jnp.ones((1, 16, 16, 1), jnp.bfloat16).at[0, 0, 0].set(2)
    assert global_average(values)[0, 0] == 1 + 1 / 256


def test_adaptive_average_by_hand():
    """Of 5 places in 3 areas: 0 and 1; 1 to 3; 3 and 4."""
    made = adaptive_average(jnp.broadcast_to(rows(1.0, 2, 3, 4, 5), (1, 5, 5, 1)), 3)
    np.testing.assert_allclose(made[0, 1, :, 0], [1.5, 3, 4.5], rtol=1e-6)
    assert adaptive_average(jnp.ones((1, 1, 2, 1)), 7).shape == (1, 7, 7, 1)


def test_a_shortcut_of_zeros_takes_every_other_pixel():
    """With convolutions of 0, a block is its shortcut."""
    block = Block(LAYERS, ((4, 3, 2), (4, 3, 1)), "zeros")
    image = jnp.arange(32.0).reshape(1, 4, 4, 2)
    variables = jax.tree.map(jnp.zeros_like, block.init(KEY, image))
    made = np.asarray(block.apply(variables, image))
    np.testing.assert_array_equal(made[..., 1:3], image[:, ::2, ::2])
    assert made.shape == (1, 2, 2, 4)
    assert not made[..., [0, 3]].any()


def test_squeezenet_judges_each_place():
    """For ImageNet: the head, ReLU, and then the average over the places."""
    options = {"width_multiplier": 0.05, "form": "imagenet", "version": "1.1"}
    model = models.create(
        SqueezeNet, num_classes=3, image_shape=(33, 33, 1), mean=(0.5,), std=(0.3,), **options
    )
    images = jax.random.uniform(KEY, (2, 33, 33, 1))
    variables = waves(jax.eval_shape(model.init, KEY, images))
    both: Any = model.apply_with_features
    logits, features, _ = jax.jit(both)(variables, images)
    head = variables["params"]["head"]
    places = features.reshape(2, 4, head["kernel"].shape[0])
    expected = np.maximum(places @ head["kernel"] + head["bias"], 0).mean(axis=1)
    assert (np.asarray(expected) > 0).any()
    np.testing.assert_allclose(logits, expected, atol=1e-6)


# ---------------------------------------------------------------- full sizes

FULL = [(name, {}, 32) for name in models.MODELS if "remat" in models.MODELS.options(name)]
FULL += [
    (name, IMAGENET, 96)
    for name in ("vgg16_bn", "resnet50", "densenet121", "inception_v3", "squeezenet")
]


@pytest.mark.full_size
@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "size"), FULL)
def test_full_size(name: str, options: dict[str, Any], size: int):
    """Finite logits, alike in any batch, in training and in both precisions."""
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    create = functools.partial(
        models.create, name, num_classes=10, image_shape=(size, size, 3), **statistics, **options
    )
    model, images = create(), jax.random.uniform(KEY, (2, size, size, 3))
    variables = model.init(KEY, images)
    logits = np.asarray(jax.jit(model.apply)(variables, images))
    assert np.isfinite(logits).all()
    scale = np.abs(logits).max()
    alone = jax.jit(model.apply)(variables, images[1:])
    np.testing.assert_allclose(alone, logits[1:], atol=1e-4 * scale)
    half = jax.jit(create(dtype="bfloat16").apply)(variables, images)
    np.testing.assert_allclose(half, logits, atol=0.1 * scale)
    trained, _ = jax.jit(model.apply_train)(variables, images, per_example(KEY, IDS[:2]))
    assert np.isfinite(trained).all()
