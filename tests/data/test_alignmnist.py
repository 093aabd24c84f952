"""The published file's reader on small files of its form, and our own generator on made digits."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from rbjax import cpab
from rbjax.data import DatasetNotFoundError, alignmnist, order
from rbjax.data.alignmnist import alignment, generated, published

LAYOUT = published.Layout(num_blocks=3, rows=4)
SAVE = {"stored": np.savez, "compressed": np.savez_compressed}
DTYPES = ["uint8", "int64", "float32", "float64"]


def made_arrays(dtype="uint8"):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (12, 28, 28)).astype(dtype)
    return {"x": x, "y": np.array([5, 0, 4, 9] * 3, np.float64)}


def read(path, block=1):
    return published.read_block(path, block, kept=path.parent / "kept", layout=LAYOUT)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "alignmnist.npz"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", SAVE)
def test_blocks_are_read(path, form, dtype):
    arrays = made_arrays(dtype)
    SAVE[form](path, **arrays)
    for block in range(3):
        images, labels = read(path, block)
        rows = slice(4 * block, 4 * block + 4)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(images[..., 0], arrays["x"][rows])
        np.testing.assert_array_equal(labels, arrays["y"][rows])


def test_flat_images_and_whole_labels_are_read_too(path):
    arrays = made_arrays()
    np.savez(path, x=arrays["x"].reshape(12, 784), y=arrays["y"].astype(np.uint8))
    images, labels = read(path)
    np.testing.assert_array_equal(images[..., 0], arrays["x"][4:8])
    np.testing.assert_array_equal(labels, [5, 0, 4, 9])


@pytest.mark.parametrize("form", SAVE)
def test_bytes_are_mapped_not_read(path, form, monkeypatch):
    SAVE[form](path, **made_arrays())
    read(path)
    read_sizes = []
    whole = zipfile.ZipExtFile.read

    def count(self, n=-1):
        data = whole(self, n)
        read_sizes.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", count)
    images, _ = read(path)  # verified or unpacked before: only headers and labels are read
    assert sum(read_sizes) < 1000
    assert isinstance(images.base, np.memmap) or isinstance(images, np.memmap)
    assert not images.flags.writeable
    unpacked = list((path.parent / "kept").glob("*.npy"))
    assert len(unpacked) == (form == "compressed")


def test_fractions_go_to_the_nearest(path):
    arrays = made_arrays("float32")
    arrays["x"][4:8] = 100.4
    arrays["x"][4, 0, 0] = 254.6
    np.savez(path, **arrays)
    images, _ = read(path)
    assert (images[0, 0, 0, 0], images[1, 0, 0, 0]) == (255, 100)


def test_a_damaged_copy_is_unpacked_anew(path):
    arrays = made_arrays()
    np.savez_compressed(path, **arrays)
    read(path)
    (unpacked,) = (path.parent / "kept").glob("*.npy")
    unpacked.write_bytes(unpacked.read_bytes()[:500])
    np.testing.assert_array_equal(read(path)[0][..., 0], arrays["x"][4:8])


@pytest.mark.parametrize("form", SAVE)
def test_a_bit_that_flips_later_is_found(path, form, capsys):
    arrays = made_arrays()
    SAVE[form](path, **arrays)
    read(path)
    kept = next((path.parent / "kept").glob("*.npy"), path)
    content, state = bytearray(kept.read_bytes()), kept.stat()
    content[content.index(arrays["x"][4].astype(arrays["x"].dtype).tobytes()) + 100] ^= 4
    kept.write_bytes(content)
    os.utime(kept, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a disk flips bits
    if kept == path:
        with pytest.raises(ValueError, match=r"is damaged in block 1 of x; copy it again"):
            read(path)
    else:
        np.testing.assert_array_equal(read(path)[0][..., 0], arrays["x"][4:8])
        assert f"{kept} is damaged in block 1" in capsys.readouterr().err


def change(**arrays):
    return lambda path, save: save(path, **{**made_arrays(), **arrays})


def with_label(value):
    labels = made_arrays()["y"]
    labels[-1] = value
    return change(y=labels)


def with_pixel(value):
    pixels = made_arrays("float32")["x"]
    pixels[5, 3, 3] = value
    return change(x=pixels)


def truncate(path, save):
    save(path, **made_arrays())
    path.write_bytes(path.read_bytes()[:-100])


def flip(path, save):
    """One byte in the middle of the pixels."""
    save(path, **made_arrays())
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)


def flip_checksum(path, save):
    """Sound pixels, and another checksum for them in the archive's directory."""
    save(path, **made_arrays())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 16] ^= 255
    path.write_bytes(data)


def shorten(path, save):
    """An x that has fewer pixels than its header says."""
    save(path, **made_arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    compression = zipfile.ZIP_STORED if save is np.savez else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", members["x.npy"][:-10])
        archive.writestr("y.npy", members["y.npy"])


def write_text(path, save):
    path.write_text("<html>not found</html>")


WRONG = {
    "truncated": (truncate, "truncated or damaged"),
    "flipped": (flip, "truncated or damaged"),
    "checksum": (flip_checksum, "truncated or damaged"),
    "short": (shorten, "x.npy that is not as long as it says"),
    "text": (write_text, "truncated or damaged"),
    "names": (lambda path, save: save(path, a=np.zeros(3)), "holds a.npy; must hold x.npy and y"),
    "rows": (change(x=np.zeros((8, 28, 28), np.uint8)), r"x of shape \(8, 28, 28\); must be \(12"),
    "size": (change(x=np.zeros((12, 32, 32), np.uint8)), r"x of shape \(12, 32, 32\)"),
    "labels": (change(y=np.zeros(11)), r"y of shape \(11,\); must be \(12,\)"),
    "order": (change(x=np.asfortranarray(made_arrays()["x"])), "uint8 in Fortran order"),
    "text labels": (change(y=np.array(["a"] * 12)), "y.npy of <U1"),
    "label 10": (with_label(10.0), "the label 10 in y; must be a whole number in 0..9"),
    "label -1": (with_label(-1.0), "the label -1 in y"),
    "label 2.5": (with_label(2.5), "the label 2.5 in y"),
    "label nan": (with_label(np.nan), "the label nan in y"),
    "pixel 256": (with_pixel(256.0), "pixels in 0..256 in x; must be in 0..255"),
    "pixel -1": (with_pixel(-1.0), "pixels in -1..255 in x"),
    "pixel nan": (with_pixel(np.nan), "pixels in nan..nan in x"),
    "unit range": (change(x=made_arrays("float32")["x"] / 255), "no pixel above 1 in x"),
}


@pytest.mark.parametrize("form", SAVE)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_and_nothing_half_done_is_left(path, case, form):
    write, message = WRONG[case]
    write(path, SAVE[form])
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    left = list((path.parent / "kept").glob("*.npy")) + list((path.parent / "kept").glob(".*"))
    assert not left


def test_a_missing_file(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"manual/alignmnist.npz is missing: place"):
        alignmnist.load_split("block_1", tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"elsewhere.npz is missing"):
        alignmnist.load_split("block_1", tmp_path, path=tmp_path / "elsewhere.npz")


def test_splits(tmp_path):
    assert list(alignmnist.SPLITS)[:2] == ["train", "block_1"]
    assert alignmnist.SPLITS["train"] == 0
    assert (len(alignmnist.SPLITS), alignmnist.SPLITS["block_75"]) == (76, 75)
    for load in (alignmnist.load_split, alignmnist.load_generated_split):
        with pytest.raises(ValueError, match=r"split 'block_76' is unknown"):
            load("block_76", tmp_path)


def test_the_published_layout_is_asked_for(path):
    np.savez(path, **made_arrays())
    with pytest.raises(ValueError, match=r"y of shape \(12,\); must be \(4560000,\)"):
        alignmnist.load_split("train", path.parent, path=path)


# The generator, on bars that are moved up and down (class 0) or to the sides (class 1).

SETTINGS = alignment.Settings(
    num_pairs=8, prior_weight=5.0, field=cpab.Field(2, 2), num_updates=40, num_steps=4
)
RECIPE = generated.Recipe(alignment=SETTINGS, num_steps=4)


class Bars(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    covariances: np.ndarray


@pytest.fixture(scope="module")
def bars() -> Bars:
    rng = np.random.default_rng(1)
    images = np.zeros((40, 14, 14, 1), np.uint8)
    labels = np.repeat([0, 1], 20).astype(np.int32)
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(4, 9)
        image[at : at + 2] = 255
        if label:
            image[:] = image.swapaxes(0, 1).copy()
    ids = order.example_ids(images, labels)
    return Bars(images, labels, ids, alignment.learn(images, labels, ids, SETTINGS, num_classes=2))


def test_aligning_brings_pairs_together(bars):
    pairs = alignment.pairs(bars.labels, bars.ids, 0, SETTINGS)
    assert len(np.unique(pairs)) == 16
    assert not bars.labels[pairs].any()
    sources, targets = bars.images[pairs[:, 0]], bars.images[pairs[:, 1]]
    thetas = alignment.align(sources, targets, SETTINGS)
    warp = jax.vmap(lambda theta, image: cpab.warp(SETTINGS.field, theta, image))
    warped = jax.jit(warp)(thetas, sources.astype(np.float32) / 255)
    before = np.sum((sources / 255.0 - targets / 255.0) ** 2)
    after = np.sum((warped - targets / 255.0) ** 2)
    assert after < 0.5 * before


def test_a_class_varies_in_its_own_direction(bars):
    axis = np.array(cpab.components(SETTINGS.field))[:, 1]
    for label, across in ((0, 1), (1, 0)):
        variance = np.diag(bars.covariances[label])
        assert variance[axis == across].sum() > 5 * variance[axis != across].sum()


def test_learning_does_not_depend_on_how_images_are_stored(bars):
    shuffled = np.random.default_rng(2).permutation(40)
    again = alignment.learn(
        bars.images[shuffled], bars.labels[shuffled], bars.ids[shuffled], SETTINGS, num_classes=2
    )
    np.testing.assert_allclose(again, bars.covariances, atol=1e-6)


def test_a_class_of_one_image_has_no_pairs(bars):
    with pytest.raises(ValueError, match="class 2 has 0 examples; a pair needs 2"):
        alignment.learn(bars.images, bars.labels, bars.ids, SETTINGS, num_classes=3)


def test_images_are_deformed_by_their_class_example_and_block(bars):
    def deform(rows, block=1, recipe=RECIPE):
        return generated.deform(
            bars.images[rows],
            bars.labels[rows],
            bars.ids[rows],
            bars.covariances,
            block=block,
            recipe=recipe,
        )

    whole = np.arange(40)
    one = deform(whole)
    assert one.dtype == np.uint8
    np.testing.assert_allclose(deform(whole[::-1])[::-1].astype(int), one, atol=1)
    np.testing.assert_allclose(deform(whole[5:9]).astype(int), one[5:9], atol=1)
    assert np.all(np.any(deform(whole, block=2) != one, axis=(1, 2, 3)))
    assert np.any(deform(whole, recipe=RECIPE._replace(seed=1)) != one)
    still = deform(whole, recipe=RECIPE._replace(scale=0.0))
    np.testing.assert_array_equal(still, bars.images)
    with pytest.raises(ValueError, match=r"scale is -1.0; it must be at least 0"):
        deform(whole, recipe=RECIPE._replace(scale=-1.0))
    # A bar of class 0 moves down or up, and its columns stay as bright; in class 1 it is the rows.
    by_column, by_row = (
        np.abs(one.sum(axis).astype(int) - bars.images.sum(axis)).sum((1, 2)) for axis in (1, 2)
    )
    assert by_column[:20].sum() < 0.5 * by_row[:20].sum()
    assert by_row[20:].sum() < 0.5 * by_column[20:].sum()
    assert by_column[20:].sum() > 0.3 * by_row[:20].sum()


def test_more_images_than_a_batch_and_a_rest(bars, monkeypatch):
    arguments = (bars.images, bars.labels, bars.ids, bars.covariances)
    whole = generated.deform(*arguments, block=3, recipe=RECIPE)
    monkeypatch.setattr(generated, "_BATCH", 16)
    parts = generated.deform(*arguments, block=3, recipe=RECIPE)
    np.testing.assert_allclose(parts.astype(int), whole, atol=1)


def test_blocks_are_made_once_and_kept_by_recipe(bars, tmp_path, monkeypatch, capsys):
    maker = generated.Maker(bars.images, bars.labels, tmp_path / "made", RECIPE, num_classes=2)
    first = maker.block(1)
    assert isinstance(first, np.memmap)
    assert "block 1 is made once" in capsys.readouterr().err
    stored = sorted(path.name for path in (tmp_path / "made").glob("*/*.np?"))
    assert [name.split("-")[0] for name in stored] == ["block", "gaussians"]

    def fail(*_, **__):
        raise AssertionError("made again")

    with monkeypatch.context() as patched:
        patched.setattr(generated, "deform", fail)
        patched.setattr(alignment, "learn", fail)
        np.testing.assert_array_equal(maker.block(1), first)
        np.testing.assert_array_equal(maker.covariances(), bars.covariances)
        other = maker._replace(recipe=RECIPE._replace(scale=0.5))
        for recipe, number in ((other, 1), (maker, 2)):
            with pytest.raises(AssertionError, match="made again"):
                recipe.block(number)
    (path,) = (tmp_path / "made").glob("*/block*.npy")
    damaged = path.read_bytes()[:300]
    path.unlink()  # `first` goes on being mapped
    path.write_bytes(damaged)
    np.testing.assert_array_equal(maker.block(1), first)


def test_the_generated_split_is_of_the_mnist_that_is_there(bars, tmp_path, monkeypatch):
    read = []

    def fake(name, split, data_dir):
        read.append((name, split, Path(data_dir)))
        return bars.images, bars.labels

    monkeypatch.setattr(alignmnist.storage, "read", fake)
    images, labels = alignmnist.load_generated_split("train", tmp_path)
    np.testing.assert_array_equal(images, bars.images)
    np.testing.assert_array_equal(labels, bars.labels)
    assert read == [("mnist", "train", tmp_path)]
