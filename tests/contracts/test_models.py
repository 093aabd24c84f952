"""What every architecture keeps to."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import models
from rbjax.models.densenet import DenseNet
from rbjax.models.googlenet import GoogLeNet
from rbjax.models.inception import InceptionV3
from rbjax.models.preact_resnet import PreActResNet
from rbjax.models.resnet import ResNet
from rbjax.models.squeezenet import SqueezeNet
from rbjax.models.vgg import VGG
from rbjax.models.wide_resnet import WideResNet
from rbjax.prng import per_example

NUM_CLASSES = 3
NARROW: dict[str, tuple[type[nn.Module], dict[str, Any], int]] = {
    "vgg": (VGG, {"width": 4, "blocks": (1, 2)}, 8),
    # From 32 channels on XLA for CPU merges bfloat16 convolutions, wrongly.
    "resnet": (ResNet, {"width": 32, "blocks": (1, 1)}, 8),
    "resnet_bottleneck": (
        ResNet,
        {"width": 4, "blocks": (1, 1), "block": "bottleneck", "form": "imagenet"},
        16,
    ),
    "resnet_zeros": (ResNet, {"width": 8, "blocks": (1, 1), "shortcut": "zeros"}, 8),
    "preact_resnet": (PreActResNet, {"width": 8, "blocks": (1, 1)}, 8),
    "wide_resnet": (WideResNet, {"depth": 10, "widen_factor": 1, "dropout": 0.3}, 8),
    "densenet": (DenseNet, {"growth_rate": 4, "blocks": (2, 1)}, 8),
    "googlenet": (GoogLeNet, {"width_multiplier": 0.05, "stem": "triple"}, 16),
    # Batch norm of 4 values, one an image, would enlarge every rounding of so deep a network.
    "inception_v3": (InceptionV3, {"width_multiplier": 0.05}, 18),
    "squeezenet": (SqueezeNet, {"width_multiplier": 0.15}, 8),
    "vgg_imagenet": (VGG, {"width": 4, "blocks": (1, 1), "form": "imagenet"}, 8),
    "densenet_imagenet": (DenseNet, {"growth_rate": 4, "blocks": (2, 1), "form": "imagenet"}, 16),
    "inception_v3_imagenet": (InceptionV3, {"width_multiplier": 0.05, "form": "imagenet"}, 107),
    "squeezenet_imagenet": (SqueezeNet, {"width_multiplier": 0.15, "form": "imagenet"}, 21),
}
"""A narrow member of each deep family, and its image size."""
SMALL = [
    name
    for name, maker in models.MODELS.items()
    if not {maker, getattr(maker, "func", None)} & {family for family, *_ in NARROW.values()}
]
"""Those that are tested as they are."""
SHAPES = {
    **{name: (25, 25, 1) if name.startswith("lenet") else (8, 8, 3) for name in SMALL},
    **{name: (size, size, 3) for name, (_, _, size) in NARROW.items()},
}
RECTIFIED = "squeezenet_imagenet"
"""Its head judges each place, here the only one, and a ReLU follows."""
LARGE = "inception_v3_imagenet"
"""Differs from `inception_v3` in its first layers only, and takes longer than the others."""


DEEP = (LARGE, "inception_v3", "googlenet")
"""Of many small branches, which take long to compile at any width."""


def each(names: Iterable[str], *, but: Container[str] = (LARGE,)) -> list[Any]:
    """Returns the names as parameters, of which some are for `-m full_size`."""
    large = pytest.mark.full_size
    return [pytest.param(name, marks=large) if name in but else name for name in names]


WITH_BATCH_NORM = ["lenet_modern", *(name for name in NARROW if name != RECTIFIED)]
WITH_DROPOUT = ["lenet_modern", "vgg_p5", "wide_resnet", "googlenet", "inception_v3"]
WITH_DROPOUT += ["vgg_imagenet", "squeezenet_imagenet"]
WITHOUT_DROPOUT = ["simple_cnn", "lenet_no_dropout", "resnet"]
IDS = jnp.array([5, 2, 9, 4])


def create(name: str, **options: Any) -> models.Model:
    maker, own, _ = NARROW.get(name, (name, {}, 0))
    channels = SHAPES[name][2]
    return models.create(
        maker,
        num_classes=NUM_CLASSES,
        image_shape=SHAPES[name],
        mean=(0.4,) * channels,
        std=(0.3,) * channels,
        **own,
        **options,
    )


def drawn(shapes: Any) -> Any:
    """Returns weights by NumPy: to compile a deep network's own takes longer than all its tests."""
    generator = np.random.default_rng(0)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        normal = generator.standard_normal(leaf.shape)
        if path[-1].key == "kernel":
            values = normal * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
            values = centre + 0.1 * np.clip(normal, -3, 3)
        return values.astype(leaf.dtype)

    # Not by `jnp.asarray`, of which each shape is a program.
    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@functools.cache
def setting(name: str):
    """A model, its variables, four images, and its functions compiled once."""
    model = create(name)
    images = jax.random.uniform(jax.random.key(1), (4, *SHAPES[name]))
    if name in NARROW:
        variables = drawn(jax.eval_shape(model.init, jax.random.key(0), images))
    else:
        variables = jax.jit(model.init)(jax.random.key(0), images)
    return model, variables, images, jax.jit(model.apply), jax.jit(model.apply_train)


@pytest.mark.parametrize("name", each(SHAPES))
class TestModel:
    def test_shapes_and_dtypes(self, name: str):
        model, variables, images, apply, apply_train = setting(name)
        chex.assert_tree_all_finite(variables)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        logits = apply(variables, images)
        trained, batch_stats = apply_train(variables, images, per_example(jax.random.key(2), IDS))
        for values in (logits, trained):
            assert values.shape == (4, NUM_CLASSES)
            assert values.dtype == jnp.float32
        features = jax.eval_shape(model.features, variables, images)
        kernel = variables["params"]["head"]["kernel"]
        assert features.shape == (4, kernel.shape[0])
        assert features.dtype == jnp.float32
        chex.assert_trees_all_equal_shapes(batch_stats, variables.get("batch_stats", {}))
        np.testing.assert_array_equal(apply(variables, images), logits)

    def test_logits_are_the_head_of_the_features_in_any_batch(self, name: str):
        model, variables, images, apply, _ = setting(name)
        head = jax.device_get(variables["params"]["head"])
        features = jax.jit(model.features)
        together = np.asarray(apply(variables, images))
        for row in (3, 1):
            expected = features(variables, images[row : row + 1]) @ head["kernel"] + head["bias"]
            expected = np.maximum(expected, 0) if name == RECTIFIED else expected
            np.testing.assert_allclose(together[row : row + 1], expected, atol=1e-5)

    def test_same_arguments_give_the_same_object(self, name: str):
        model, *_ = setting(name)
        maker, own, _ = NARROW.get(name) or (name, models.options_of(name), 0)
        channels = SHAPES[name][2]
        again = models.create(
            maker,
            num_classes=NUM_CLASSES,
            image_shape=list(SHAPES[name]),
            mean=[0.4] * channels,
            std=[0.3] * channels,
            **own,
        )
        assert again is model
        assert hash(again) == hash(model)


@pytest.mark.parametrize("name", each(SHAPES, but=DEEP))
def test_bfloat16_is_close_to_float32(name: str):
    _, variables, images, apply, _ = setting(name)
    logits = jax.jit(create(name, dtype="bfloat16").apply)(variables, images)
    assert logits.dtype == jnp.float32
    precise = np.asarray(apply(variables, images))
    np.testing.assert_allclose(logits, precise, atol=0.05 * np.abs(precise).max())
    assert not np.array_equal(logits, precise)


@pytest.mark.parametrize("name", each(SHAPES, but=DEEP))
def test_a_cosine_head_is_the_linear_one_without_its_bias(name: str):
    linear, _, images, *_ = setting(name)
    model = create(name, head="cosine")
    forms = [jax.eval_shape(made.init, jax.random.key(0), images) for made in (linear, model)]
    trees = [jax.tree.map(jnp.shape, form["params"]) for form in forms]
    assert trees[0]["head"].pop("bias") == (NUM_CLASSES,)
    assert trees[0] == trees[1]
    logits = jax.eval_shape(model.apply, forms[1], images)
    assert (logits.shape, logits.dtype) == ((4, NUM_CLASSES), jnp.float32)


def test_other_weights_do_not_trace_again():
    model, variables, images, *_ = setting("simple_cnn")

    @jax.jit
    @chex.assert_max_traces(1)
    def predict(logits_fn, images):
        return logits_fn(images)

    outputs = []
    for scale in (1.0, 2.0, 3.0):
        scaled = jax.tree.map(lambda leaf, scale=scale: scale * leaf, variables)
        outputs.append(predict(jax.tree_util.Partial(model.apply, scaled), images))
    assert not np.allclose(outputs[0], outputs[1])


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_mask_belongs_to_the_example(name: str):
    """In a batch of one example, batch norm aside, and in another order."""
    _, variables, images, _, apply_train = setting(name)
    keys = per_example(jax.random.key(3), IDS)
    logits, _ = apply_train(variables, images, keys)
    order = jnp.array([2, 0, 3, 1])
    shuffled, _ = apply_train(variables, images[order], keys[order])
    np.testing.assert_allclose(shuffled, logits[order], atol=1e-3)  # batch norm of 4 examples
    other, _ = apply_train(variables, images, per_example(jax.random.key(4), IDS))
    assert np.abs(other - logits).max() > 1e-2
    if "batch_stats" not in variables:
        alone, _ = apply_train(variables, images[:1], keys[:1])
        np.testing.assert_allclose(alone, logits[:1], atol=1e-5)


@pytest.mark.parametrize("name", WITHOUT_DROPOUT)
def test_keys_do_not_matter_without_dropout(name: str):
    _, variables, images, _, apply_train = setting(name)
    one, _ = apply_train(variables, images, per_example(jax.random.key(3), IDS))
    other, _ = apply_train(variables, images, per_example(jax.random.key(4), IDS))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", each(WITH_BATCH_NORM))
def test_running_statistics_move_in_training_by_a_tenth(name: str):
    _, variables, images, _, apply_train = setting(name)
    keys = per_example(jax.random.key(3), IDS)
    _, batch_stats = apply_train(variables, images, keys)
    _, twice = apply_train({**variables, "batch_stats": batch_stats}, images, keys)
    once, batch_stats, twice = jax.device_get((variables["batch_stats"], batch_stats, twice))
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(batch_stats)) > 0
    # r' = 0.9 r + 0.1 b, whatever r is: two steps on one batch differ by 0.9 of what one moved.
    moved = jax.tree.map(lambda a, b: a - b, batch_stats, once)
    again = jax.tree.map(lambda a, b: a - b, twice, batch_stats)
    chex.assert_trees_all_close(again, jax.tree.map(lambda m: 0.9 * m, moved), atol=1e-5)


@pytest.mark.parametrize("name", each(WITH_BATCH_NORM, but=DEEP))
def test_batch_statistics_span_the_named_axis(name: str):
    """Two devices of two examples and one device of four give the same."""
    _, variables, images, _, apply_train = setting(name)
    synchronized = create(name, axis_name="data")
    keys = per_example(jax.random.key(3), IDS)
    split = jax.pmap(
        synchronized.apply_train, axis_name="data", in_axes=(None, 0, 0), devices=jax.devices()[:2]
    )
    logits, batch_stats = split(variables, images.reshape(2, 2, *SHAPES[name]), keys.reshape(2, 2))
    batch_stats = jax.device_get(batch_stats)
    expected, expected_stats = apply_train(variables, images, keys)
    np.testing.assert_allclose(logits.reshape(4, -1), expected, atol=1e-3)
    for device in range(2):
        shard = jax.tree.map(lambda leaf, device=device: leaf[device], batch_stats)
        chex.assert_trees_all_close(shard, expected_stats, atol=1e-4, rtol=1e-4)
    jax.eval_shape(synchronized.init, jax.random.key(0), images)  # no axis while initialising
