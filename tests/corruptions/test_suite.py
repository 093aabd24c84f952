"""A dataset under corruptions: what belongs to an example, what is counted, and going on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import attacks, corruptions, prng
from rbjax.metrics import error_rates
from rbjax.variants import variants

NUM = 45
SEVERITIES = {"gaussian_noise": (1, 5), "contrast": (3,)}
ONE = jax.local_devices()[:1]
KEY = jax.random.key(3)


def make_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (NUM, 8, 8, 3), np.uint8)


WEIGHTS = np.random.default_rng(1).normal(size=(8 * 8 * 3, 4)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


LOGITS = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))
LABELS = np.random.default_rng(2).integers(0, 4, NUM).astype(np.int32)


def run(images=None, labels=LABELS, *, key=KEY, **options):
    given = {"profile": "cifar", "severities": SEVERITIES, "batch_size": 16, "devices": ONE}
    images = make_images() if images is None else images
    return corruptions.run_corruptions(LOGITS, key, images, labels, **{**given, **options})


def test_predictions_are_those_of_each_image_alone():
    result = run()
    images = make_images().astype(np.float32) / 255
    np.testing.assert_array_equal(result.clean, np.argmax(linear(WEIGHTS, images), axis=-1))
    for name, levels in SEVERITIES.items():
        for row, level in enumerate(levels):
            corruption = corruptions.create(name, severity=level, profile="cifar", quantize=True)
            stream = prng.named(KEY, f"{name}-{level}")
            keys = prng.per_example(stream, jnp.arange(NUM))
            corrupted = jax.jit(jax.vmap(corruption))(keys, images)
            expected = np.argmax(linear(WEIGHTS, np.asarray(corrupted)), axis=-1)
            # A tie of logits to rounding may fall either way; there is none here.
            np.testing.assert_array_equal(result.predictions[name][row], expected)
            shares = jax.nn.softmax(linear(WEIGHTS, np.asarray(corrupted)))
            shown = result.probability[name][row]
            np.testing.assert_allclose(shown, np.max(np.asarray(shares), axis=1), rtol=1e-4)
    lines = repr(result).splitlines()
    assert lines[0].startswith(f"run_corruptions, cifar: {NUM} images of 4 classes")
    assert lines[1].split()[:5] == ["corruption", "1", "3", "5", "mean"]
    right = 100 * np.mean(result.predictions["contrast"][0] == LABELS)
    assert lines[-1].split()[:5] == ["contrast", "-", f"{right:.1f}", "-", f"{right:.1f}"]
    matrix = result.confusion("gaussian_noise")
    assert matrix.shape == (2, 4, 4)
    assert matrix.sum() == 2 * NUM
    whole, classes = error_rates(matrix)
    wrong = result.predictions["gaussian_noise"] != LABELS
    np.testing.assert_allclose(whole, wrong.mean(axis=1))
    np.testing.assert_allclose(classes[1, 2], wrong[1, LABELS == 2].mean())


def test_batches_devices_and_order_do_not_matter():
    expected = run()
    order = np.random.default_rng(4).permutation(NUM)
    moved = run(make_images()[order], LABELS[order], example_ids=order, batch_size=7)
    eight = run(devices=jax.local_devices(), batch_size=16)
    for name in SEVERITIES:
        np.testing.assert_array_equal(moved.predictions[name], expected.predictions[name][:, order])
        np.testing.assert_array_equal(eight.predictions[name], expected.predictions[name])


class Counted:
    """Images that remember how often they were asked for, and stop after so many times."""

    def __init__(self, images, limit=10**9):
        self.images, self.asked, self.limit = images, 0, limit
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        images = self.images[rows]
        if images.ndim == 4 and len(images):  # not one image, to know the dataset by
            self.asked += 1
            if self.asked > self.limit:
                raise InterruptedError
        return images


def test_it_goes_on_where_it_was(tmp_path):
    expected = run()
    with pytest.raises(InterruptedError):
        run(Counted(make_images(), 5), journal=tmp_path / "journal")
    rest = Counted(make_images())
    result = run(rest, journal=tmp_path / "journal")
    for name in SEVERITIES:
        np.testing.assert_array_equal(result.predictions[name], expected.predictions[name])
    # 4 passes over the images, 3 blocks each, of which 5 were done; each image is read once
    # more, to see that the journal is of it.
    assert rest.asked == 12 - 5 + 3
    again = Counted(make_images())
    run(again, journal=tmp_path / "journal")
    assert again.asked == 3
    # Other constants by the same names: only the images as they are were classified before.
    other = Counted(make_images())
    of_imagenet = run(other, journal=tmp_path / "journal", profile="imagenet")
    assert other.asked == 3 + 9
    fresh = run(profile="imagenet")
    for name in SEVERITIES:
        np.testing.assert_array_equal(of_imagenet.predictions[name], fresh.predictions[name])
    with pytest.raises(ValueError, match="belongs to a run with labels"):
        run(labels=(LABELS + 1) % 4, journal=tmp_path / "journal")


def test_functions_of_one_name_are_told_apart(tmp_path):
    def one(brightness):
        own = {"own": lambda key, image: image * brightness}
        folder = tmp_path / "journal"
        made = {"severities": {}, "corruptions": own}
        kept, fresh = (run(**made, **options) for options in ({"journal": folder}, {}))
        np.testing.assert_array_equal(kept.predictions["own"], fresh.predictions["own"])
        return kept.predictions["own"]

    assert np.any(one(0.99) != one(-9.0))
    one(0.99)
    assert len(list((tmp_path / "journal").glob("own-*-block-000000.npz"))) == 2


def test_a_journal_of_attacks_is_refused(tmp_path):
    images = make_images()
    options = {"batch_size": 16, "devices": ONE, "journal": tmp_path}
    attacks.run_attacks(LOGITS, KEY, images, LABELS, attacks={}, **options)
    with pytest.raises(ValueError, match="a run with call = attacks, this one has corruptions"):
        run(images, journal=tmp_path)


def test_it_tells_how_far_it_is():
    told, ended = [], []
    result = run(
        progress=told.append,
        finished=lambda name, result: ended.append((name, len(result.predictions))),
    )
    assert told[0] == ("clean", 0, NUM, {})
    robust = int(np.sum(result.predictions["contrast"][0] == LABELS))
    assert told[-1] == ("contrast-3", NUM, NUM, {"robust": robust})
    assert ended == [("clean", 0), ("gaussian_noise", 1), ("contrast", 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severities": {"fogg": (1,)}}, "did you mean 'fog'"),
        ({"severities": {"fog": (6,)}}, "severity"),
        ({"profile": "cifr"}, "did you mean 'cifar'"),
        ({"key": jax.random.PRNGKey(0)}, "it must be a typed key"),
        ({"key": jax.random.split(jax.random.key(0), 2)}, "it must be one key"),
        ({"labels": LABELS[:-1]}, "labels"),
        ({"labels": LABELS + 1}, "labels"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": LABELS[:0]}, "holds no image"),
        ({"images": make_images().astype(np.float32)}, "range from"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("name", "num_programs"),
    [("impulse_noise", 1), ("frost", 1), ("fog", 1), ("jpeg_compression", 1), ("pixelate", 5)],
)
def test_severities_share_a_program(name, num_programs):
    """Where they differ in numbers alone; sizes of matrices are none."""
    made = [corruptions.create(name, severity=n) for n in (1, 2, 3, 4, 5)]
    image = jax.ShapeDtypeStruct((32, 32, 3), np.float32)
    traces = [next(iter(one.traces.values())) for one in variants(made, KEY, image)]
    assert len({trace.program for trace in traces}) == num_programs


def test_published_severities():
    assert corruptions.published("cifar")["fog"] == (1, 2, 3, 4, 5)
    assert set(corruptions.published("cifar")) == {*corruptions.COMMON, *corruptions.EXTRA}
    assert all(len(levels) == 1 for levels in corruptions.published("mnist").values())
