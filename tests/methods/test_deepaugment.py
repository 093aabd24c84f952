"""DeepAugment: a threefold training set, and Noise2Net inside the step."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods, prng
from rbjax.models import edsr
from rbjax.models.image_to_image import ImageToImage
from rbjax.options import options_of
from rbjax.testing.training import make_model, make_train_set
from rbjax.testing.training import train as one_step
from rbjax.training import reconstruction

DATA = make_train_set()
deepaugment = importlib.import_module("rbjax.methods.deepaugment")


def leaves_equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_the_training_set_is_threefold(capsys):
    """Also of a part of the data, with a class of its own left out."""
    networks = {"edsr": drawing_network(), "cae": drawing_network()}
    rare = DATA.take(np.flatnonzero(DATA.labels != 2)[:13])
    made = deepaugment._threefold(prng.key(0), rare, networks, 1, {"edsr": 0.0, "cae": 0.0})
    assert (
        "drawing, 1 steps on 12 training images, PSNR 120.0 dB on 1 others"
        in capsys.readouterr().out
    )
    assert made.images.dtype == np.uint8
    parts = np.split(made.images, 3)
    np.testing.assert_array_equal(parts[0], rare.images)
    assert all(np.all(copies[0] == copies[0, 0, 0, 0]) for copies in parts[1:])
    assert np.any(parts[1] != parts[2])
    np.testing.assert_array_equal(made.example_ids[:13], rare.example_ids)
    assert made.example_ids.dtype == np.int32
    assert np.all(np.diff(made.example_ids) > 0)
    np.testing.assert_array_equal(made.labels, np.tile(rare.labels, 3))
    np.testing.assert_array_equal(made.class_counts, 3 * rare.class_counts)


def test_a_network_that_did_not_learn_enough_is_refused():
    networks = {"cae": drawing_network()._replace(reconstruct=lambda params, images: images / 2)}
    with pytest.raises(
        ValueError, match=r"drawing gives .* a PSNR of \d+\.\d dB, and method.min_cae"
    ):
        deepaugment._threefold(prng.key(0), DATA, networks, 1, {"cae": 60.0})


def test_of_size_0_noise2net_is_standard_training():
    _, standard, _ = one_step(methods.create("standard"))
    _, still, _ = one_step(methods.create("deepaugment", noise_epsilon=0.0))
    assert leaves_equal(still.variables, standard.variables)


STATE = methods.MethodState((jnp.full(1, 0.5), jnp.full(1, 0.25)), ())
LABELS = jnp.zeros(400, jnp.int32)
IMAGES = jnp.broadcast_to(prng.uniform(prng.key(1), (1, 4, 4, 1)), (400, 4, 4, 1))
KEYS = prng.split(prng.key(2), 400)


def test_half_of_the_images_pass_through_noise2net():
    """400 images: a standard error of 0.025."""
    method = methods.create("deepaugment")
    inputs = jax.jit(lambda: method.inputs(jnp.sum, KEYS, STATE, IMAGES, LABELS))()
    assert np.mean(np.any(inputs != IMAGES, axis=(1, 2, 3))) == pytest.approx(0.5, abs=0.08)


def test_images_that_do_not_pass_cost_nothing():
    """Of 30 images 11 are changed, in two blocks of 8."""
    is_changed = np.isin(np.arange(30), np.arange(2, 24, 2))
    calls = []

    def change(size, own, images):
        calls.append(len(images))
        return images + 1

    with jax.disable_jit():
        made = deepaugment._changed(change, is_changed, KEYS[:30], KEYS[:30], jnp.zeros(30))
    np.testing.assert_array_equal(made, is_changed)
    assert calls == [8, 8]


def test_a_model_that_does_not_normalise_is_refused():
    setting = methods.Setting(make_model()._replace(mean=(0.0,), std=(1.0,)), {}, (), 8, None)
    with pytest.raises(ValueError, match=r"noise2net adds noise.*take source = 'networks'"):
        methods.create("deepaugment").init(prng.key(0), setting)


def drawing_network() -> ImageToImage:
    """Gives images of one level back, which the draw of its weights has drawn."""
    return ImageToImage(
        name="drawing",
        init=lambda key, images: jnp.zeros(()),
        reconstruct=lambda params, images: images,
        loss=lambda params, images, keys: params**2,
        distort_weights=lambda key, params: prng.uniform(key),
        distort=lambda params, images, keys: jnp.zeros_like(images) + params,
    )


def test_one_image_in_twenty_redraws_the_weights():
    """4,000 images: 200 draws with a standard deviation of 14."""
    images, ids = np.zeros((4000, 1, 1, 1), np.uint8), np.arange(4000)
    drawn = deepaugment.distorted(prng.key(3), drawing_network(), {}, images, ids).ravel()
    changes = np.sum(drawn[1:] != drawn[:-1])
    assert changes == pytest.approx(200, abs=50)
    # The images that redraw are known by their ids: without half of the others all is the same.
    redraws = np.append(True, drawn[1:] != drawn[:-1])
    kept = np.flatnonzero(redraws | (ids % 2 == 0))
    fewer = deepaugment.distorted(
        prng.key(3), drawing_network(), {}, images[kept], ids[kept]
    ).ravel()
    np.testing.assert_array_equal(fewer, drawn[kept])


def test_edsr_learns_what_is_asked_of_it():
    """Smooth images, which their mean alone gives back with 13 dB."""
    least = options_of(methods.deepaugment)["min_edsr_psnr"].default
    phase, place = np.meshgrid(7 * np.arange(40), np.arange(8), indexing="ij")
    waves = np.round(127 + 80 * np.sin(phase + place / 2)).astype(np.uint8)
    images = np.repeat(waves[:, :, None, None], 8, axis=2)
    network = edsr.create(channels=1, mean=(0.5,), num_blocks=2, width=4)
    params = reconstruction.fit(prng.key(4), network, images[:30], num_steps=60, learning_rate=0.02)
    again = reconstruction.fit(prng.key(4), network, images[:30], num_steps=60, learning_rate=0.02)
    assert leaves_equal(params, again)
    untrained = network.init(prng.key(4), jnp.zeros((1, 8, 8, 1)))
    assert reconstruction.psnr(network, untrained, images[30:]) < least
    assert reconstruction.psnr(network, params, images[30:]) > least


def test_psnr_by_hand():
    half = ImageToImage("half", *[lambda *args: args[1] / 2] * 5)
    images = np.full((50, 4, 4, 1), 51, np.uint8)  # 0.2, given back as 0.1
    assert reconstruction.psnr(half, {}, images) == pytest.approx(20.0)


def test_augmix_follows(monkeypatch):
    """It is AugMix of what Noise2Net gives, clipped, with AugMix's loss."""
    made, loss = [], lambda seen: seen.losses

    def fake(**options: float) -> methods.Method:
        made.append(options)
        inputs = lambda logits_fn, keys, state, images, labels: (images, images, images)
        return methods.Method(inputs=inputs, loss=loss, together=True)

    monkeypatch.setattr(deepaugment, "augmix_method", fake)
    method = methods.create("deepaugment", augmix=True, augmix_severity=2.0, noise_share=1.0)
    assert made == [{"severity": 2.0}]
    assert method.together
    assert method.loss is loss
    inputs = jax.jit(lambda: method.inputs(jnp.sum, KEYS, STATE, IMAGES, LABELS))()
    assert len(inputs) == 3
    assert all(0 == view.min() < view.max() == 1 for view in inputs)
