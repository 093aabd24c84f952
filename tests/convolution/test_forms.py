"""Every form of a convolution computes the same numbers, and each shape gets its form."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rbjax.convolution import choice, forms, loop_safe


def conv(x, w, strides=(1, 1), padding: Any = "SAME"):
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), "float32")


def assert_close(actual, expected, tolerance=3e-6):
    """Compares pytrees up to a multiple of each array's largest value."""

    def compare(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max()))

    jax.tree.map(compare, actual, expected)


SIZES = [((6, 6), ((1, 1), (1, 1))), ((7, 4), ((0, 0), (2, 1))), ((3, 5), ((0, 2), (0, 0)))]


@pytest.mark.parametrize("form", [forms.xla, forms.patches, forms.winograd, forms.products_first])
def test_each_form_gives_the_value_and_the_image_gradient(form):
    def run(x, w, gs, fast):
        outputs = []
        for (size, padding), g in zip(SIZES, gs, strict=True):
            shape = forms.Shape((1, 1), padding, size, (3, 3), None)
            image = x[:, : size[0], : size[1]]
            plain = functools.partial(conv, padding=padding)
            if fast:
                y, dx = form(image, w, shape), forms.image_gradient(g, w, shape, form)
            else:
                y, pull = jax.vjp(lambda x, plain=plain: plain(x, w), image)
                (dx,) = pull(g)
            outputs.append((y, dx))
        return outputs

    x, w = normal(0, (2, 8, 8, 16)), normal(1, (3, 3, 16, 24))
    gs = []
    for i, (size, padding) in enumerate(SIZES):
        shape = forms.Shape((1, 1), padding, size, (3, 3), None)
        gs.append(normal(i, (2, *shape.output_size, 24)))
    run = jax.jit(run, static_argnums=3)
    assert_close(run(x, w, gs, True), run(x, w, gs, False))


@pytest.mark.parametrize("form", [forms.kernel_gradient_xla, forms.kernel_gradient_patches])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_each_form_gives_the_kernel_gradient(form, strides):
    shape = forms.Shape(strides, ((1, 2), (0, 1)), (7, 8), (3, 2), None)
    x, w = normal(0, (3, 7, 8, 4)), normal(1, (3, 2, 4, 5))
    g = normal(2, (3, *shape.output_size, 5))
    _, pull = jax.vjp(lambda w: conv(x, w, strides, shape.padding), w)
    assert_close(form(x, g, shape), pull(g)[0])


@pytest.mark.parametrize("num_examples", [2, 6])
def test_the_kernel_gradient_of_winograd(num_examples):
    """In one block and in two; output sizes odd and even, edges padded and cropped."""
    for size, padding in (((28, 29), ((1, 1), (1, 1))), ((31, 30), ((0, 0), (2, -1)))):
        shape = forms.Shape((1, 1), padding, size, (3, 3), None)
        x, g = normal(0, (num_examples, *size, 4)), normal(1, (num_examples, *shape.output_size, 5))
        w = jnp.zeros((3, 3, 4, 5))
        _, pull = jax.vjp(lambda w, x=x, shape=shape: forms.xla(x, w, shape), w)
        fast = jax.jit(lambda x, g, shape=shape: forms.kernel_gradient_winograd(x, g, shape))
        assert_close(fast(x, g), pull(g)[0], 1e-5)


def test_planes_of_images_of_one_channel():
    shape = forms.Shape((1, 1), ((2, 1), (0, 2)), (7, 9), (5, 4), None)
    x, w = normal(0, (3, 7, 9, 1)), normal(1, (5, 4, 1, 6))
    assert choice.forward_form(3, w.shape, shape) is forms.planes
    assert_close(jax.jit(forms.planes, static_argnums=2)(x, w, shape), forms.xla(x, w, shape))


def resnet_shape(size, stride=1, kernel=3):
    edge = kernel // 2
    padding = ((edge, edge), (edge, edge))
    return forms.Shape((stride, stride), padding, (size, size), (kernel, kernel), None)


def test_the_form_depends_on_the_shape():
    stem = resnet_shape(224, 2, 7)
    deep, middle, wide = (3, 3, 512, 512), (3, 3, 256, 256), (3, 3, 32, 32)
    assert choice.forward_form(32, wide, resnet_shape(32)) is forms.xla
    assert choice.forward_form(32, middle, resnet_shape(8)) is forms.winograd
    assert choice.forward_form(32, middle, resnet_shape(8, 2)) is forms.patches
    assert choice.forward_form(32, middle, resnet_shape(16, 2)) is forms.xla
    assert choice.forward_form(2, deep, resnet_shape(4)) is forms.patches
    assert choice.forward_form(32, (1, 1, 64, 128), resnet_shape(32, 2, 1)) is forms.patches
    assert choice.image_gradient_form(32, middle, resnet_shape(8)) is forms.winograd
    assert choice.image_gradient_form(32, deep, resnet_shape(4)) is forms.patches
    assert choice.image_gradient_form(32, deep, resnet_shape(8, 2)) is forms.xla
    assert choice.image_gradient_form(32, (7, 7, 3, 64), stem) is forms.products_first
    assert choice.kernel_gradient_form(3, stem) is forms.kernel_gradient_patches
    assert choice.kernel_gradient_form(64, resnet_shape(32, 1, 5)) is forms.kernel_gradient_xla
    assert choice.kernel_gradient_form(64, resnet_shape(32)) is forms.kernel_gradient_winograd
    assert choice.kernel_gradient_form(1, resnet_shape(32)) is forms.kernel_gradient_patches
    assert choice.kernel_gradient_form(64, resnet_shape(32, 2)) is forms.kernel_gradient_patches
    assert choice.kernel_gradient_form(512, resnet_shape(4, 1, 5)) is forms.kernel_gradient_xla


def test_chosen_winograd_and_patches_agree_with_jax():
    operands = [
        (normal(0, (6, 31, 33, 64)), 0.04 * normal(1, (3, 3, 64, 64))),  # 1,632 tiles: 2 blocks
        (normal(2, (2, 4, 4, 256)), 0.02 * normal(3, (3, 3, 256, 256))),
    ]

    def run(fn):
        def gradients(operands):
            return [
                (fn(x, w), jax.grad(lambda x, w: jnp.sin(fn(x, w)).sum(), (0, 1))(x, w))
                for x, w in operands
            ]

        return jax.jit(gradients)(operands)

    assert_close(run(loop_safe(conv)), run(conv), 1e-5)


@pytest.mark.parametrize(
    ("num_examples", "tiles", "size"),
    [(32, 256, 4), (32, 4, 32), (512, 4, 256), (6, 272, 3), (997, 4, 997), (7, 2000, 1)],
)
def test_blocks_divide_the_batch(num_examples, tiles, size):
    assert forms._block_size(num_examples, tiles) == size
