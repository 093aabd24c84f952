from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import perturbations
from rbjax.perturbations import weather
from rbjax.variants import variants

KEYS = jax.random.split(jax.random.key(0), 64)
IMAGE = jax.random.uniform(jax.random.key(1), (28, 28, 3), maxval=0.6)
DRY = {
    "fog": {"thickness": 0.0},
    "snow": {"coverage": 0.0, "max_whiteness": 0.0},
    "rain": {"rainfall": 0.0},
}


def drawn(perturbation, image=IMAGE):
    return drawn_of_each([perturbation], image)[0]


def drawn_of_each(several, image=IMAGE):
    """Returns images of perturbations, by one program if they differ in numbers alone."""
    made = variants(several, KEYS[0], image)
    return [np.asarray(run(one.bind(list(one.traces)), image)) for one in made]


@jax.jit
def run(perturbation, image):
    return jax.vmap(perturbation, (0, None))(KEYS, image)


def grown(grid, noise, amplitude):
    """One step of diamond-square, point by point: (n, n) -> (2n, 2n) on a torus."""
    n = len(grid)
    middle, across, along = amplitude * noise.reshape(3, n, n)
    fine = np.zeros((2 * n, 2 * n))
    fine[::2, ::2] = grid
    for i, j in np.ndindex(n, n):
        corners = [grid[(i + a) % n, (j + b) % n] for a in (0, 1) for b in (0, 1)]
        fine[2 * i + 1, 2 * j + 1] = np.mean(corners) + middle[i, j]
    for i, j in np.ndindex(2 * n, 2 * n):
        if (i + j) % 2:
            around = [fine[i - 1, j], fine[(i + 1) % (2 * n), j]]
            around += [fine[i, j - 1], fine[i, (j + 1) % (2 * n)]]
            own = along if i % 2 == 0 else across
            fine[i, j] = np.mean(around) + own[i // 2, j // 2]
    return fine


def test_plasma_is_diamond_square():
    noise = np.asarray(jax.random.uniform(KEYS[0], (255,), minval=-1.0))
    grid, used = np.zeros((1, 1)), 0
    for level, n in enumerate((1, 2, 4, 8)):
        grid = grown(grid, noise[used : used + 3 * n * n], 1.7 ** (-2 * level))
        used += 3 * n * n
    expected = (grid - grid.min()) / (grid.max() - grid.min())
    ours = jax.jit(lambda key: weather.plasma(key, 16, decay=1.7))(KEYS[0])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_larger_decay_is_smoother():
    """Mean step between neighbours, in units of the cloud's own deviation."""
    steps, plasma = [], jax.vmap(lambda key, decay: weather.plasma(key, 16, decay=decay), (0, None))
    for decay in (1.25, 2.5):
        clouds = np.asarray(jax.jit(plasma)(KEYS, decay))
        steps.append(np.mean(np.abs(np.diff(clouds, axis=1))) / clouds.std())
    assert steps[0] > 1.5 * steps[1]


@pytest.mark.parametrize("thickness", [0.5, 1.5])
def test_fog_on_white(thickness):
    """(1 + c p) / (1 + c), and p reaches 0 and 1."""
    foggy = drawn(perturbations.fog(thickness=thickness), jnp.ones((32, 32, 1)))
    np.testing.assert_allclose(foggy.min((1, 2, 3)), 1 / (1 + thickness), rtol=1e-5)
    np.testing.assert_allclose(foggy.max((1, 2, 3)), 1.0, rtol=1e-5)


def test_fog_on_black_is_black():
    several = [perturbations.fog(thickness=1.0), perturbations.fog(thickness=0.0)]
    assert not np.any(drawn_of_each(several, jnp.zeros((6, 6, 1))))


def test_snow_layer_without_smear_is_thresholded_noise():
    """Share above the threshold and their mean, of 64 x 30 x 40 values, five standard errors."""
    options = {"mean": 0.2, "std": 0.3, "zoom": 1.0, "threshold": 0.5, "radius": 0, "sigma": 1.0}
    layers = jax.jit(jax.vmap(lambda key: weather.snow_layer(key, (30, 40), **options)))(KEYS)
    flakes = np.asarray(layers)[np.asarray(layers) > 0]
    share = flakes.size / layers.size  # P(z > 1) = 0.15866
    assert abs(share - 0.15866) < 5 * (0.15866 * 0.84134 / layers.size) ** 0.5
    assert flakes.min() >= 0.5
    assert flakes.max() == 1.0


def test_enlarged_noise_is_corner_aligned():
    """Ends on ends, linear between; 3 values over 5 fall on halves."""
    np.testing.assert_allclose(
        weather._enlarge(3, 5 / 3, 5) @ np.array([0.0, 1.0, 4.0]), [0, 0.5, 1, 2.5, 4], atol=1e-6
    )
    for side in (6, 7, 28, 32, 65):
        for zoom in (1.0, 1.25, 1.5, 1.75, 4.0):
            weights = weather._enlarge(int(np.ceil(side / zoom)), zoom, side)
            np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)


def test_snow_is_the_whitened_image_and_two_layers():
    image = jnp.array([[[0.2, 0.4, 0.6]]])
    grey = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    snowy = weather.add_snow(image, jnp.full((1, 1), 0.05), whiteness=0.25)
    expected = 0.75 * image + 0.25 * (1.5 * grey + 0.5) + 0.1
    np.testing.assert_allclose(snowy, expected, rtol=1e-5)
    corner = weather.add_snow(
        jnp.zeros((3, 4, 1)), jnp.zeros((3, 4)).at[0, 1].set(0.5), whiteness=0
    )
    assert np.argwhere(np.asarray(corner[..., 0])).tolist() == [[0, 1], [2, 2]]


def test_rain_has_so_many_streaks_so_long():
    """Upright streaks that fall between two columns cover one or two of each of 5 rows."""
    make = lambda key: weather.rain_layer(key, (40, 50), num_drops=1, length=5, max_slant=0.0)
    layers = np.asarray(jax.jit(jax.vmap(make))(KEYS))
    assert np.all((layers > 0).any(2).sum(1) == 5)
    total = layers.sum((1, 2)) / 5  # a streak's brightness, uniform in 1/2 to 1
    assert total.min() >= 0.5 - 1e-5
    assert total.max() <= 1 + 1e-5
    assert total.mean() == pytest.approx(0.75, abs=5 * 0.5 / 12**0.5 / 8)
    rows, columns = (layers > 0).any(2), (layers > 0).any(1)
    assert rows.any(0).all()
    assert columns.sum(1).max() == 2


def test_where_streaks_cross_the_brighter_one_counts():
    """75 streaks reach each pixel; the brightest of so many is above 0.6 but once in 5e6."""
    options = {"num_drops": 300, "length": 3, "max_slant": 0.0}
    layer = jax.jit(lambda key: weather.rain_layer(key, (6, 4), **options))(KEYS[0])
    assert float(layer.min()) > 0.6
    assert float(layer.max()) <= 1.0


def test_slant():
    """A streak of 20 rows at 45 degrees at most crosses 20 columns at most, and some do."""
    make = lambda key: weather.rain_layer(key, (40, 50), num_drops=1, length=20, max_slant=45.0)
    layers = np.asarray(jax.jit(jax.vmap(make))(KEYS))
    crossed = (layers > 0).any(1).sum(1)
    assert 18 <= crossed.max() <= 21


@pytest.mark.parametrize("name", DRY)
def test_no_weather_is_the_image(name):
    perturbation = perturbations.create(name, **DRY[name])
    np.testing.assert_allclose(jax.jit(perturbation)(KEYS[0], IMAGE), IMAGE, atol=1e-6)


@pytest.mark.parametrize("name", ["snow", "rain"])
def test_snow_and_rain_darken_nothing(name):
    images = drawn(perturbations.create(name))
    assert np.all(images >= np.asarray(IMAGE) - 1e-6)
    assert images.mean() > float(IMAGE.mean()) + 0.01


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("fog", "thickness", (0.1, 0.5, 1.5)),
        ("snow", "coverage", (0.0, 0.05, 0.2)),
        ("snow", "max_whiteness", (0.0, 0.2, 0.6)),
        ("rain", "rainfall", (0.005, 0.02, 0.1)),
        ("rain", "streak_length", (2, 5, 10)),
        ("rain", "opacity", (0.1, 0.4, 0.9)),
        ("impulse_noise", "amount", (0.01, 0.05, 0.2)),
        ("gaussian_blur", "max_sigma", (0.5, 1.0, 2.0)),
        ("brightness", "max_delta", (0.05, 0.1, 0.3)),
        ("contrast", "max_contrast", (0.1, 0.4, 0.9)),
        ("shift", "max_shift", (0.5, 1.0, 3.0)),
        ("rotation", "max_degrees", (5, 15, 45)),
    ],
)
def test_distortion_grows_with_every_severity(name, option, values):
    several = [perturbations.create(name, **{option: value}) for value in values]
    distortion = [np.mean(np.abs(of - np.asarray(IMAGE))) for of in drawn_of_each(several)]
    assert distortion[0] < 0.95 * distortion[1] < 0.95 * 0.95 * distortion[2]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fog", {"thickness": -1}, "thickness is -1.0"),
        ("fog", {"decay": 0.5}, "decay is 0.5; it must be between 1 and 1000"),
        ("snow", {"coverage": 2}, "coverage is 2.0; it must be between 0 and 1"),
        ("snow", {"flake_size": 0.5}, "flake_size is 0.5; it must be between 1 and 1000"),
        ("snow", {"whitenes": 0.5}, "did you mean 'max_whiteness'"),
        ("rain", {"streak_length": 0}, "streak_length is 0"),
        ("rain", {"opacity": 1.2}, "opacity is 1.2"),
        ("rain", {"rainfall": -0.1}, "rainfall is -0.1"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        perturbations.create(name, **options)
