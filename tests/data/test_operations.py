"""AugMix's operations against Pillow, which they equal to the last bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from rbjax.data.operations import OPERATIONS, apply
from rbjax.data.words import pack, unpack
from rbjax.inputs import UNIT_INTERVAL


def affine(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, resample=2)


PILLOW = {
    "autocontrast": lambda image: ImageOps.autocontrast(image),
    "equalize": lambda image: ImageOps.equalize(image),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, threshold),
    "rotate": lambda image, degrees: image.rotate(degrees, resample=2),
    "shear_x": lambda image, slope: affine(image, 1, slope, 0, 0, 1, 0),
    "shear_y": lambda image, slope: affine(image, 1, 0, 0, slope, 1, 0),
    "translate_x": lambda image, pixels: affine(image, 1, 0, pixels, 0, 1, 0),
    "translate_y": lambda image, pixels: affine(image, 1, 0, 0, 0, 1, pixels),
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
}
ANGLES = (-180, -90, -30, -8, -1, 0, 3, 7.3, 30, 45, 60, 90, 137, 180)
SLOPES = (-0.3, -0.09, -0.031, 0.0, 0.0123, 0.05, 0.25, 0.3, 1.0)
PIXELS = (-8, -3, -1, 0, 1, 2, 2.5, 7)
# 2/3, 0.8, 1.2 and 1.6 differ where a product and a sum are fused.
FACTORS = (0.0, 0.1, 0.118, 0.37, 0.5, 0.64, 2 / 3, 0.8, 1.0, 1.2, 1.3, 1.6, 1.9, 4.0)
GRID = {
    "posterize": (1, 2, 3, 4, 7, 8),
    "solarize": (0, 1, 77, 128, 180, 255, 256),
    "rotate": ANGLES,
    "shear_x": SLOPES,
    "shear_y": SLOPES,
    "translate_x": PIXELS,
    "translate_y": PIXELS,
    "color": FACTORS,
    "contrast": FACTORS,
    "brightness": FACTORS,
    "sharpness": FACTORS,
}


def make_images(height, width, channels):
    """Noise, a narrow range, few levels, one level, a ramp, two levels, and smooth waves."""
    random = np.random.default_rng(0)
    shape = (height, width, channels)
    y, x = np.mgrid[:height, :width]
    waves = 127.5 + 90 * np.sin(x / 3)[..., None] * np.cos(y[..., None] / 4 + np.arange(channels))
    images = [
        random.integers(0, 256, shape),
        random.integers(90, 131, shape),
        random.choice([3, 200, 201, 255], shape),
        np.full(shape, 117),
        np.broadcast_to((x * 255 // (width - 1))[..., None], shape),
        random.choice([0, 255], shape, p=[0.9, 0.1]),
        waves,
        *(random.integers(low, low + size, shape) for low, size in ((0, 7), (13, 60), (31, 211))),
    ]
    return np.stack(images).astype(np.uint8)


def levels(images):
    return np.asarray(images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(24, 24, 3), (27, 21, 1)], ids=["colour", "grey"])
def test_equals_pillow(name, shape):
    images = make_images(*shape)
    given = jnp.asarray(UNIT_INTERVAL[images])
    run = jax.vmap(OPERATIONS[name].run, (0, None) if name in GRID else 0)
    parameters = GRID.get(name)
    if parameters is None:
        results = levels(jax.jit(run)(given))[None]
        calls = [()]
    else:
        several = jax.jit(jax.vmap(run, (None, 0)))
        single = np.asarray(parameters, np.float32)
        results = levels(several(given, single))
        calls = [(parameter,) for parameter in single.tolist()]
    for call, result in zip(calls, results, strict=True):
        for image, mine in zip(images, result, strict=True):
            theirs = PILLOW[name](Image.fromarray(image.squeeze()), *call)
            expected = np.asarray(theirs).reshape(shape)
            np.testing.assert_array_equal(mine, expected, err_msg=f"{name}{call}")


@pytest.mark.parametrize(
    ("name", "level", "sign", "expected"),
    [
        ("posterize", 2.6, 1, 3),
        ("posterize", 2.4, -1, 4),
        ("solarize", 2.9, 1, 182),
        ("rotate", 2.9, 1, 8),
        ("rotate", 2.9, -1, -8),
        ("shear_x", 3.0, -1, -0.09),
        ("shear_y", 1.5, 1, 0.045),
        ("translate_x", 2.9, 1, 3),
        ("translate_y", 0.9, -1, 0),
        ("color", 3.0, 1, 0.64),
        ("sharpness", 0.1, -1, 0.118),
    ],
)
def test_levels_mean_what_augmix_means_by_them(name, level, sign, expected):
    parameter = OPERATIONS[name].parameter
    assert parameter is not None
    np.testing.assert_allclose(parameter(level, sign, 32), expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_levels_of_8_bits_and_words_of_four_channels_give_the_same(channels):
    """Also whole shifts, which are not interpolated, further than the image is wide."""
    image = make_images(9, 7, channels)[0]
    floating = jnp.asarray(UNIT_INTERVAL[image])
    words = pack(jnp.asarray(image))
    assert words.shape == image.shape
    np.testing.assert_array_equal(unpack(words, floating.dtype), floating)
    for name, parameter in (("equalize", ()), ("rotate", (30.0,)), ("translate_x", (2,))):
        run = OPERATIONS[name].run
        expected = run(floating, *map(float, parameter))
        np.testing.assert_array_equal(run(floating, *parameter), expected)
        np.testing.assert_array_equal(run(jnp.asarray(image), *parameter), levels(expected))
        for wide in (False, True):
            with jax.enable_x64(wide):
                result = unpack(run(words, *parameter), jnp.dtype("uint8"))
            np.testing.assert_array_equal(result, levels(expected))
    for name in ("translate_x", "translate_y"):
        assert not OPERATIONS[name].run(floating, -11).any()


def test_apply_is_the_operation_at_its_level():
    image = jnp.asarray(UNIT_INTERVAL[make_images(32, 32, 3)[6]])
    moved = apply("translate_y", image, 2.9, -1)
    np.testing.assert_array_equal(moved[3:], image[:-3])
    assert not moved[:3].any()
    np.testing.assert_array_equal(apply("equalize", image, 2.0), OPERATIONS["equalize"].run(image))
    with pytest.raises(ValueError, match=r"operation 'sheer_x' is unknown; .*'shear_x'"):
        apply("sheer_x", image, 1.0)


@pytest.mark.parametrize("name", ["color", "contrast"])
def test_grey_is_not_known_of_two_channels(name):
    with pytest.raises(ValueError, match="image has 2 channels; grey is known of 1 or 3"):
        OPERATIONS[name].run(jnp.zeros((4, 4, 2)), 0.5)


def test_augmix_leaves_out_what_corrupts():
    assert [name for name, operation in OPERATIONS.items() if operation.corrupts] == [
        "color",
        "contrast",
        "brightness",
        "sharpness",
    ]
