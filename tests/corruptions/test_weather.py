"""Snow, frost and fog against the published steps, written in NumPy on the same draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from rbjax import corruptions
from rbjax.corruptions import frost
from rbjax.corruptions.weather import cheap_noise, cloud_corner
from rbjax.perturbations import weather

KEYS = jax.random.split(jax.random.key(0), 24)
IMAGE = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
CLEAR = jnp.zeros((20, 20, 3))


def drawn(corruption, image):
    return np.asarray(jax.jit(jax.vmap(corruption, (0, None)))(KEYS, image))


def grown(grid, noise):
    """One step of diamond-square, point by point: (n, n) -> (2n, 2n) on a torus."""
    n = len(grid)
    middle, across, along = noise
    fine = np.zeros((2 * n, 2 * n))
    fine[::2, ::2] = grid
    corners = grid + np.roll(grid, -1, 0)
    fine[1::2, 1::2] = (corners + np.roll(corners, -1, 1)) / 4 + middle
    around = np.roll(fine, 1, 0) + np.roll(fine, -1, 0) + np.roll(fine, 1, 1) + np.roll(fine, -1, 1)
    around /= 4
    fine[::2, 1::2] = around[::2, 1::2] + along
    fine[1::2, ::2] = around[1::2, ::2] + across
    return fine


def test_corner_is_that_of_diamond_square():
    key, decay = KEYS[0], 1.5
    coarse = np.asarray(jax.random.uniform(key, (1023,), minval=-1.0))
    seeds = jax.random.bits(jax.random.fold_in(key, 1), (2,))
    grid, used = np.zeros((1, 1)), 0
    for level, n in enumerate((1, 2, 4, 8, 16, 32, 64)):
        noise = coarse[used : used + 3 * n * n].reshape(3, n, n) if n < 32 else None
        noise = np.asarray(cheap_noise(seeds, n)) if noise is None else noise
        grid = grown(grid, decay ** (-2 * level) * noise)
        used += 3 * n * n
    expected = ((grid - grid.min()) / (grid.max() - grid.min()))[:21, :28]
    ours = jax.jit(lambda key: cloud_corner(key, 128, (21, 28), decay=decay))(key)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_clouds_drawn_in_blocks_are_those_drawn_alone():
    """Blocks of 16 on CPU: 24 keys leave half a block; a gradient goes through, as in an attack."""
    one = functools.partial(cloud_corner, size=64, shape=(9, 12), decay=1.7)
    batch = jax.jit(jax.vmap(one))(KEYS)
    one = jax.jit(one)
    alone = [one(KEYS[i]) for i in (0, 15, 16, 23)]
    np.testing.assert_allclose(batch[np.array([0, 15, 16, 23])], np.stack(alone), atol=1e-6)
    fog = corruptions.create("fog", severity=1, profile="tiny_imagenet")
    images = jnp.full((2, 8, 8, 1), 0.5)
    slope = jax.jit(jax.grad(lambda images: jnp.sum(jax.vmap(fog)(KEYS[:2], images))))(images)
    assert np.all(np.isfinite(slope))
    assert np.any(np.asarray(slope) > 0)


def test_a_small_corner_is_plasma():
    ours = jax.jit(lambda key: cloud_corner(key, 32, (30, 32), decay=2.0))(KEYS[1])
    theirs = jax.jit(lambda key: weather.plasma(key, 32, decay=2.0))(KEYS[1])[:30]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_cheap_noise_is_uniform_and_independent():
    """Counts of the 256 values by chi-square; products of neighbours, planes and keys; 5 sigma."""
    make = jax.jit(jax.vmap(lambda key: cheap_noise(jax.random.bits(key, (2,)), 64)))
    noise = np.asarray(make(KEYS))
    np.testing.assert_allclose(np.unique(noise), (np.arange(256) + 0.5) / 128 - 1)
    counts = np.bincount(((noise + 1) * 128).astype(int).ravel(), minlength=256)
    expected = noise.size / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 5 * (2 * 255) ** 0.5
    pairs = [(noise[..., 1:], noise[..., :-1]), (noise[:, :, 16:], noise[:, :, :-16])]
    pairs += [(noise[:, :, 1:], noise[:, :, :-1]), (noise[:, 1:], noise[:, :-1])]
    pairs += [(noise[1:], noise[:-1]), (noise, np.ones_like(noise))]
    for one, other in pairs:
        assert abs(np.sum(one * other)) < 5 * np.sqrt(np.sum(one**2 * other**2))


@pytest.mark.parametrize(("profile", "severity"), [("cifar", 5), ("mnist", 5)])
def test_fog_on_white(profile, severity):
    """(1 + c p) / (1 + c): p reaches 0 and 1 on the whole map, CIFAR's image."""
    foggy = drawn(
        corruptions.create("fog", severity=severity, profile=profile), np.ones((32, 32, 1))
    )
    thickness = corruptions.CONSTANTS[profile]["fog"][severity - 1][0]
    least, most = foggy.min((1, 2, 3)), foggy.max((1, 2, 3))
    if profile == "cifar":
        np.testing.assert_allclose(least, 1 / (1 + thickness), rtol=1e-5)
        np.testing.assert_allclose(most, 1, rtol=1e-5)
    else:  # a corner of an eighth of the map's side
        assert np.all(least > 1 / (1 + thickness) - 1e-5)
        assert np.mean(most) < 0.95


def published_snow(key, image, constants):
    """The steps of ImageNet-C; the noise is that of the middle, which is all that is enlarged."""
    mean, std, zoom, threshold, radius, sigma, kept = constants
    height, width, channels = image.shape
    noise_key, angle_key = jax.random.split(key)
    part = int(np.ceil(height / zoom))
    layer = mean + std * np.asarray(jax.random.normal(noise_key, (part, part)), np.float64)
    layer = np.asarray(scipy.ndimage.zoom(layer, zoom, order=1))
    trim = (len(layer) - height) // 2
    layer = layer[trim : trim + height, trim : trim + width]
    layer = np.where(layer < threshold, 0, np.clip(layer, 0, 1))
    angle = np.deg2rad(float(jax.random.uniform(angle_key, minval=-135.0, maxval=-45.0)))
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    smeared = np.zeros_like(layer)
    for i, weight in zip(steps, weights / weights.sum(), strict=True):
        rows = np.clip(np.arange(height) + int(np.ceil(i * np.sin(angle) - 0.5)), 0, height - 1)
        columns = np.clip(np.arange(width) + int(np.ceil(i * np.cos(angle) - 0.5)), 0, width - 1)
        smeared += weight * layer[rows][:, columns]
    luma = [0.299, 0.587, 0.114] if channels == 3 else [1]
    grey = (image * luma).sum(-1, keepdims=True)
    white = kept * image + (1 - kept) * np.maximum(image, grey * 1.5 + 0.5)
    return (white + (smeared + np.rot90(smeared, 2))[..., None]).clip(0, 1)


@pytest.mark.parametrize(
    ("profile", "severity", "channels"), [("cifar", 3, 3), ("cifar", 5, 3), ("imagenet", 4, 1)]
)
def test_snow_is_the_published_code(profile, severity, channels):
    constants = corruptions.CONSTANTS[profile]["snow"][severity - 1]
    image = 0.4 * IMAGE[..., :channels]
    ours = drawn(corruptions.create("snow", severity=severity, profile=profile), image)
    for key, snowy in zip(KEYS[:5], ours, strict=False):
        expected = published_snow(key, image, constants)
        np.testing.assert_allclose(snowy, expected, atol=1e-5)
    assert ours.std(0).mean() > 0.01


def test_frost_is_a_random_place_of_a_random_texture():
    """Each pixel of a texture tells its texture, row and column."""
    sides = [(33, 41), (21, 23), (20, 60)]
    pictures = [np.zeros((h, w, 3)) for h, w in sides]
    for number, picture in enumerate(pictures):
        rows, columns = np.indices(picture.shape[:2])
        picture[...] = np.stack([rows, columns, np.full_like(rows, number)], -1) / 255
    made = frost.Pictures.of([np.rint(255 * p).astype(np.uint8) for p in pictures])
    change = functools.partial(
        frost.frost, image_weight=1.0, frost_weight=1.0, scale=1.0, textures=made
    )
    icy = np.rint(255 * drawn(change, CLEAR)).astype(int)
    row, column, number = icy[:, 0, 0].T
    rows, columns = np.indices((20, 20))
    np.testing.assert_array_equal(icy[..., 0], rows + row[:, None, None])
    np.testing.assert_array_equal(icy[..., 1], columns + column[:, None, None])
    assert set(number) == {0, 1, 2}
    for one, (height, width) in enumerate(sides):
        starts = max(height - 20, 1), max(width - 20, 1)
        assert row[number == one].max() < starts[0]
        assert column[number == one].max() < starts[1]
    assert row[number == 0].max() > 8
    assert column[number == 0].max() > 12


def test_frost_weighs_image_and_ice():
    textures = np.full((1, 110, 120, 3), (51, 102, 153), np.uint8)
    corruption = corruptions.create("frost", severity=4, textures=textures)
    icy = corruption(KEYS[0], jnp.asarray(0.5 * IMAGE))
    expected = 0.85 * 0.5 * IMAGE + 0.4 * np.array([0.2, 0.4, 0.6])
    np.testing.assert_allclose(icy, expected.clip(0, 1), atol=1e-6)
    grey = corruption(KEYS[0], CLEAR[..., :1])
    np.testing.assert_allclose(grey, 0.4 * (0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6), atol=1e-6)


def test_textures_are_shrunk_to_the_profile(tmp_path):
    """By a fifth, pixel 2 of 5 is left; files and arrays give the same."""
    texture = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    file = tmp_path / "ice.png"
    Image.fromarray(texture).save(file)
    of_file = corruptions.create("frost", severity=2, textures=[file])
    of_array = corruptions.create("frost", severity=2, textures=texture[None])
    of_floats = corruptions.create("frost", severity=2, textures=jnp.asarray(texture[None] / 255))
    assert of_file == of_array == of_floats
    assert hash(of_file) == hash(of_array)
    assert of_file != corruptions.create("frost", severity=2, textures=255 - texture[None])
    icy = of_file(KEYS[0], CLEAR)
    np.testing.assert_allclose(icy, 0.3 * texture[2::5, 2::5] / 255, atol=1e-6)
    texture = texture[:10, :20].astype(np.float64)
    steps, starts = [1 / 0.3, 1 / 0.3, 1], [0.5 / 0.3 - 0.5, 0.5 / 0.3 - 0.5, 0]
    theirs = scipy.ndimage.affine_transform(
        texture,
        np.array(steps),
        np.array(starts),  # pyright: ignore[reportArgumentType]
        (3, 6, 3),
        order=1,
    )
    ours = frost.Pictures.of([texture.astype(np.uint8)]).shrunk(0.3)[0][0]
    np.testing.assert_allclose(ours, theirs, atol=0.51)


WRONG_TEXTURES = [
    (np.zeros((5, 6, 3)), r"shape \(5, 6, 3\)"),
    (np.zeros((1, 40, 40, 3), np.int32), "int32"),
    (np.full((1, 40, 40, 3), 3.0), "from 3 to 3"),
    ("ice.png", "list of paths"),
    ([], "empty"),
    ([3], "paths"),
    (["no/such/ice.png"], "does not exist"),
    ([__file__], "not a picture"),
]


@pytest.mark.parametrize(("textures", "message"), WRONG_TEXTURES)
def test_wrong_textures_are_named(textures, message):
    with pytest.raises(ValueError, match=message) as error:
        corruptions.create("frost", textures=textures)
    assert "\n" not in str(error.value)
    assert "textures" in str(error.value)


def test_a_texture_too_small_is_named():
    textures = np.zeros((2, 99, 200, 3), np.uint8)
    with pytest.raises(ValueError, match=r"textures\[0\] is 20 x 40"):
        corruptions.create("frost", textures=textures)(KEYS[0], jnp.zeros((32, 32, 3)))


def test_own_ice():
    """Five different pictures, bright enough to be ice, that repeat."""
    pictures = frost.ice_pictures(128, 0.2) / 255
    assert pictures.shape == (5, 128, 128, 3)
    means = pictures.mean((1, 2, 3))
    np.testing.assert_allclose(means, [0.517, 0.81, 0.747, 0.597, 0.483], atol=0.02)
    np.testing.assert_allclose(
        pictures.mean(-1).std((1, 2)), [0.08, 0.08, 0.1, 0.11, 0.17], rtol=0.15
    )
    assert not frost.ice_pictures(128, 0.2).flags.writeable
    icy = corruptions.create("frost", severity=5, profile="imagenet")
    assert drawn(icy, CLEAR).mean() > 0.3
