"""Arrays of one's own in .npz files: what fits, what lies about itself, what is damaged."""

from __future__ import annotations

import re
import zipfile
from typing import Any

import numpy as np
import pytest

from rbjax.data import arrays, custom
from rbjax.data.custom import Source
from tests.data.test_custom import CLASSES, draw, load_both


def test_arrays(tmp_path):
    images = np.stack([draw(label, n) for label in range(3) for n in range(4)])
    labels = np.repeat(np.arange(3), 4)
    path = tmp_path / "own.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=labels[:, None],
        test_images=images[::2],
        test_labels=labels[::2].astype(np.float64),
        class_names=CLASSES,
    )
    train, test = (custom.load(Source("npz", str(path)), s) for s in ("train", "test"))
    assert train.info.class_names == CLASSES
    assert test.class_counts.tolist() == [2, 2, 2]
    np.testing.assert_array_equal(train.images, images[train.index])
    np.testing.assert_array_equal(train.labels, labels[train.index])
    grey = tmp_path / "grey.npz"
    np.savez(grey, x_train=images[..., 0], y_train=labels, x_test=images[..., 0], y_test=labels)
    info = custom.info(Source("npz", str(grey)))
    assert info.image_shape == (6, 8, 1)
    assert info.class_names == ("0", "1", "2")


ARRAYS = {
    "train_images": np.zeros((4, 6, 8, 3), np.uint8),
    "train_labels": np.array([0, 1, 0, 1]),
    "test_images": np.zeros((2, 6, 8, 3), np.uint8),
    "test_labels": np.array([0, 1]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_labels": None}, "has no array test_labels or y_test; it has train_images"),
        ({"train_images": np.zeros((4, 6, 8, 3))}, "train images are float64"),
        ({"train_labels": np.array([0, 1, 0])}, "with 3 labels"),
        ({"train_labels": np.array([0, 0.5, 0, 1])}, "must be whole numbers"),
        ({"train_labels": np.array([0, 1, 0, 2**32])}, r"labels are in 0..4294967296"),
        ({"train_labels": np.array([0, 1, 0, np.inf])}, r"labels are in 0.0..inf"),
        ({"train_labels": np.array([0, 1, 0, 1j])}, "must be whole numbers"),
        ({"train_labels": np.array([False, True] * 2)}, "labels are bool"),
        ({"train_labels": np.array([0, 2, 0, 2])}, "train has no image of class 1"),
        ({"train_labels": np.array([0, -1, 0, 1])}, r"train labels are in -1..1; must be in 0..1"),
        ({"class_names": np.array(["a", "b", "c"])}, "train has no image of class c"),
        ({"class_names": np.array(["a", "a"])}, "must be text .*, each once"),
        ({"class_names": np.array([b"a", b"b"])}, "class_names are |S1"),
        ({"class_names": np.array(["a", "b"], object)}, "array class_names cannot be read"),
        (
            {"test_images": np.zeros((0, 6, 8, 3), np.uint8), "test_labels": np.zeros(0, int)},
            "test has no images",
        ),
        (
            {"train_images": np.zeros((4, 0, 8, 3), np.uint8)},
            r"train has no images, \(4, 0, 8, 3\)",
        ),
        ({"train_images": np.zeros((4, 6, 8, 3), ">u2")}, "train images are uint16"),
        ({"train_labels": np.array([0, 1, 0, 1], object)}, "train_labels .* Python objects"),
        ({"test_labels": np.array([0, 2])}, r"test labels are in 0..2; must be in 0..1"),
        ({"test_images": np.zeros((2, 6, 9, 3), np.uint8)}, r"test images are \(6, 9, 3\)"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, change, message):
    path = tmp_path / "own.npz"
    np.savez(path, **{k: v for k, v in {**ARRAYS, **change}.items() if v is not None})
    with pytest.raises(ValueError, match=message) as error:
        load_both(Source("npz", str(path)))
    assert str(path) in str(error.value)


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **ARRAYS)
    whole = bytearray(path.read_bytes())
    whole[400] ^= 255  # inside the first array
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"own.npz'.* cannot be read"):
        custom.load(Source("npz", str(path)), "train")
    path.write_bytes(whole[:300])
    with pytest.raises(ValueError, match=r"own.npz': not an .npz file"):
        custom.load(Source("npz", str(path)), "train")


def test_a_damaged_compressed_array_is_named(tmp_path):
    path = tmp_path / "own.npz"
    noise = np.random.default_rng(0).integers(0, 9, (4, 6, 8, 3), np.uint8)
    np.savez_compressed(path, **{**ARRAYS, "train_images": noise})
    whole, refused = path.read_bytes(), 0
    for place in range(200, 400, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        custom._load.cache_clear()  # known by its checksums, which are what they were
        with pytest.raises(ValueError, match=r"own.npz': .* cannot be read"):
            custom.load(Source("npz", str(path)), "train")
        refused += 1
    assert refused == 29


def _rewritten(path, change) -> None:
    """Changes the members of an .npz file, and keeps their checksums right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)


def _said_shape(text: bytes):
    return lambda m: {**m, "train_images.npy": m["train_images.npy"].replace(b"(4, 6, 8, 3)", text)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_said_shape(b"(5, 6, 8, 3)"), "takes 720 bytes, and 576 are there"),
        (_said_shape(b"(3, 6, 8, 3)"), "takes 432 bytes, and 576 are there"),
        (_said_shape(b"(9**9999999)"), "no array of NumPy's"),
        (_said_shape(b"(-4, 6, 8,3)"), "bytes are there|are there"),
        (_said_shape(b"(4, 6, 8, 3"), "no array of NumPy's"),
        (lambda m: {**m, "train_images.npy": m["train_images.npy"][:-9]}, "and 567 are there"),
        (lambda m: {**m, "train_images.npy": b"\x93NUMPY\x09\x00"}, "format 9.0 of .npy"),
        (lambda m: {**m, "train_images.npy": b""}, "no array of NumPy's"),
    ],
)
def test_arrays_that_lie_are_named(tmp_path, change, message):
    path = tmp_path / "own.npz"
    np.savez(path, **ARRAYS)
    _rewritten(path, lambda members: members)
    custom.load(Source("npz", str(path)), "train")
    _rewritten(path, change)
    with pytest.raises(ValueError, match=rf"own.npz'.*train_images cannot.*{message}") as error:
        custom.load(Source("npz", str(path)), "train")
    assert "\n" not in str(error.value)


def test_an_array_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    np.savez(path, **ARRAYS)
    monkeypatch.setattr(arrays.os, "sysconf", lambda name: 20)
    with pytest.raises(ValueError, match=r"train_images .* more than this machine's memory of 400"):
        custom.load(Source("npz", str(path)), "train")


def test_an_encrypted_file_is_named(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **ARRAYS)
    content = path.read_bytes()
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = content.split(signature)
        marked = [part[: place - 4] + b"\1" + part[place - 3 :] for part in parts[1:]]
        content = signature.join([parts[0], *marked])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own.npz'.*train_images cannot be read.*encrypted"):
        custom.load(Source("npz", str(path)), "train")


def test_arrays_of_other_byte_orders_and_layouts_are_the_same(tmp_path):
    images = np.stack([draw(label, n) for label in range(2) for n in range(3)])
    labels = np.repeat([0, 1], 3)
    loaded = []
    for number, order in enumerate((np.ascontiguousarray, np.asfortranarray)):
        for dtype in ("<i8", ">i8", ">i2", ">f4", ">u4"):
            path = tmp_path / f"{number}{dtype[1:]}{dtype[0] == '>'}.npz"
            own = order(images), labels.astype(dtype)
            stored: dict[str, Any] = dict(zip(ARRAYS, own * 2, strict=True))
            np.savez(path, **stored, class_names=np.array(["é", "b"], ">U3"))
            loaded.append(custom.load(Source("npz", str(path)), "train"))
    for each in loaded:
        np.testing.assert_array_equal(each.images, loaded[0].images)
        np.testing.assert_array_equal(each.labels, loaded[0].labels)
        assert each.labels.dtype == np.int32
        assert each.info.class_names == ("é", "b")
    np.testing.assert_array_equal(loaded[0].images, images[loaded[0].index])


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 32, 48)])
def test_channels_first_are_refused_with_what_to_do(tmp_path, shape):
    path = tmp_path / "own.npz"
    np.savez(path, **{**ARRAYS, "train_images": np.zeros(shape, np.uint8)})
    last = re.escape(str((shape[0], *shape[2:], shape[1])))
    with pytest.raises(ValueError, match=rf"channels first;.*moveaxis.* of shape {last}"):
        custom.load(Source("npz", str(path)), "train")
    folder = tmp_path / "bands" / "train" / "ant"
    folder.mkdir(parents=True)
    (folder.parent / "bee").mkdir()
    for name in ("ant", "bee"):
        np.save(folder.parent / name / "0.npy", np.zeros(shape[1:], np.uint8))
    with pytest.raises(ValueError, match=r"ant/0.npy: is .*, channels first; .*moveaxis"):
        custom.load(Source("folder", str(tmp_path / "bands")), "train")
