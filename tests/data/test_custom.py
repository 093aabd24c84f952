"""One's own data: folders of images and arrays, and what is said of those that do not fit."""

from __future__ import annotations

import re
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rbjax.data import arrays, custom
from rbjax.data.custom import Source

CLASSES = ("ant", "bee", "cow")


def draw(label: int, number: int, size=(6, 8), channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(100 * label + number)
    return rng.integers(0, 256, (*size, channels), np.uint8)


def save(folder, label: int, numbers, **options) -> None:
    folder = folder / CLASSES[label]
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(draw(label, number, **options)).save(folder / f"{number:03d}.png")


@pytest.fixture
def folder(tmp_path):
    for label in range(3):
        save(tmp_path / "train", label, range(4 + label))
        save(tmp_path / "test", label, range(10, 12))
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    return tmp_path


def load_both(source: Source):
    return tuple(custom.load(source, split) for split in ("train", "test"))


def test_a_folder_of_images(folder):
    train, test = load_both(Source("folder", str(folder)))
    assert train.info.class_names == CLASSES
    assert train.class_counts.tolist() == [4, 5, 6]
    assert test.class_counts.tolist() == [2, 2, 2]
    assert train.info.image_shape == (6, 8, 3)
    assert test.info.num_examples == {"train": 15, "test": 6}
    stored = np.stack([draw(label, n) for label in range(3) for n in range(4 + label)])
    np.testing.assert_array_equal(train.images, stored[train.index])
    np.testing.assert_allclose(train.info.mean, stored.mean(axis=(0, 1, 2)) / 255, atol=1e-6)
    np.testing.assert_allclose(train.info.std, stored.std(axis=(0, 1, 2)) / 255, atol=1e-6)
    assert test.info.mean == train.info.mean


def test_a_folder_without_splits(tmp_path):
    for label in range(3):
        save(tmp_path, label, range(10))
    source = Source("folder", str(tmp_path), test_fraction=0.3)
    train, test = load_both(source)
    assert train.class_counts.tolist() == [7, 7, 7]
    assert test.class_counts.tolist() == [3, 3, 3]
    everything = {image.tobytes() for image in np.concatenate([train.images, test.images])}
    assert len(everything) == 30
    # Another image does not move the others between the splits' ranks by more than itself.
    again = custom.load(source, "test")
    np.testing.assert_array_equal(again.images, test.images)


def test_images_are_made_to_fit(tmp_path):
    for label in range(2):
        save(tmp_path / "train", label, range(2), size=(6, 8))
        save(tmp_path / "test", label, range(2), size=(12, 12))
    uniform = np.full((9, 30, 3), 77, np.uint8)
    Image.fromarray(uniform).save(tmp_path / "test" / "ant" / "wide.png")
    source = Source("folder", str(tmp_path), image_size=(6, 6))
    train, test = custom.load(source, "train"), custom.load(source, "test")
    # 6 x 8 is as high as the frame: the middle columns as they are.
    first = train.images[train.index == 0][0]
    np.testing.assert_array_equal(first, draw(0, 0)[:, 1:7])
    assert test.images.shape[1:] == (6, 6, 3)
    assert any(np.all(image == 77) for image in test.images)
    with pytest.raises(ValueError, match=r"000.png: is 12 x 12 pixels, others are 6 x 8; give"):
        custom.load(Source("folder", str(tmp_path)), "test")


def test_grey_images_and_bands(tmp_path):
    for label in range(2):
        path = tmp_path / "grey" / CLASSES[label]
        path.mkdir(parents=True)
        bands = tmp_path / "bands" / CLASSES[label]
        bands.mkdir(parents=True)
        for number in range(5):
            Image.fromarray(draw(label, number, channels=1)[..., 0]).save(path / f"{number}.png")
            np.save(bands / f"{number}.npy", draw(label, number, channels=7))
    grey = Source("folder", str(tmp_path / "grey"))
    assert custom.info(grey).image_shape == (6, 8, 1)
    assert custom.info(grey._replace(channels=3)).image_shape == (6, 8, 3)
    source = Source("folder", str(tmp_path / "bands"), image_size=(3, 4))
    info = custom.info(source)
    assert info.image_shape == (3, 4, 7)
    assert len(info.mean) == len(info.std) == 7
    with pytest.raises(ValueError, match=r"0.npy: is uint8 of shape \(6, 8, 7\); must be uint8"):
        custom.info(source._replace(channels=3))


def test_a_large_folder_is_decoded_as_it_is_used(folder, monkeypatch):
    small = custom.load(Source("folder", str(folder)), "train")
    monkeypatch.setattr(custom, "_MOST_IN_MEMORY", 0)
    custom._load.cache_clear()
    large = custom.load(Source("folder", str(folder)), "train")
    assert not isinstance(large.images, np.ndarray)
    rows = np.argsort(large.index)
    np.testing.assert_array_equal(large.images[rows], small.images[np.argsort(small.index)])
    assert large.info.mean == small.info.mean
    custom._load.cache_clear()


def test_a_changed_folder_is_read_again(folder):
    source = Source("folder", str(folder))
    before, mark = custom.load(source, "train").num_examples, custom.fingerprint(source)
    save(folder / "train", 0, [50])
    assert custom.load(source, "train").num_examples == before + 1
    assert custom.fingerprint(source) != mark


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


def test_damaged_files_are_named(folder, tmp_path):
    damaged = folder / "train" / "bee" / "001.png"
    whole = damaged.read_bytes()
    for data in (b"", b"not an image", whole[:60], whole[:-40]):
        damaged.write_bytes(data)
        with pytest.raises(ValueError, match=r"bee/001.png: not an image that can be read"):
            custom.load(Source("folder", str(folder)), "train")
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


def test_folders_that_do_not_fit(tmp_path):
    def refused(path, message, **options):
        with pytest.raises(ValueError, match=message):
            custom.load(Source("folder", str(path), **options), "train")

    refused(tmp_path / "nowhere", "no such folder")
    refused("a" * 300, "cannot be read .*name too long")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "no such folder")
    save(tmp_path / "one", 0, range(3))
    refused(tmp_path / "one", "holds 1 class folders; must be at least 2")
    save(tmp_path / "untested" / "train", 0, range(3))
    save(tmp_path / "untested" / "train", 1, range(3))
    with pytest.raises(ValueError, match="none called test or val"):
        custom.load(Source("folder", str(tmp_path / "untested")), "test")
    save(tmp_path / "stranger" / "train", 0, range(3))
    save(tmp_path / "stranger" / "train", 1, range(3))
    save(tmp_path / "stranger" / "test", 2, range(3))
    refused(tmp_path / "stranger", "cow is a class that train does not have")
    save(tmp_path / "few", 0, range(1))
    save(tmp_path / "few", 1, range(9))
    refused(tmp_path / "few", "class ant has 1 images, of which dataset.test_fraction = 0.2")
    (tmp_path / "few" / "cow").mkdir()
    refused(tmp_path / "few", "cow holds no image")


@pytest.mark.parametrize("mode", ["I", "F"])
def test_what_has_no_known_range_is_refused(folder, mode):
    deep = Image.fromarray(np.full((6, 8), 300, np.int32))
    deep = deep if mode != "F" else Image.fromarray(np.full((6, 8), 0.5, np.float32))
    assert deep.mode == mode
    deep.save(folder / "train" / "bee" / "deep.tiff")
    with pytest.raises(ValueError, match=rf"bee/deep.tiff: .*more than 8 bits a channel \({mode}"):
        custom.load(Source("folder", str(folder)), "train")


def test_an_image_too_large_for_pillow_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"0[01]0.png: not an image that can be read \(Image size"):
        custom.load(Source("folder", str(folder)), "train")


def test_links_are_followed_and_broken_ones_left_out(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    save(elsewhere, 0, range(3))
    (folder / "train" / "dog").symlink_to(elsewhere / "ant")
    (folder / "train" / "ant" / "broken.png").symlink_to(elsewhere / "nothing.png")
    source = Source("folder", str(folder))
    assert custom.load(source, "train").class_counts.tolist() == [4, 5, 6, 3]
    before = custom.fingerprint(source)
    (elsewhere / "ant" / "000.png").unlink()
    assert custom.fingerprint(source) != before


def test_a_class_may_be_called_test(tmp_path):
    for name in ("quiz", "test"):
        save(tmp_path / name, 0, range(10))
        (tmp_path / name / "ant").rename(tmp_path / f"all {name}")
        (tmp_path / name).rmdir()
        (tmp_path / f"all {name}").rename(tmp_path / name)
    train, test = load_both(Source("folder", str(tmp_path)))
    assert train.info.class_names == ("quiz", "test")
    assert test.class_counts.tolist() == [2, 2]


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation")])
def test_folders_of_splits_are_not_taken_for_classes(folder, names):
    for before, after in zip(("train", "test"), names, strict=True):
        (folder / before).rename(folder / after)
    with pytest.raises(ValueError, match="not of classes; rename them to train"):
        custom.load(Source("folder", str(folder)), "train")


def test_a_test_set_without_images_is_refused(folder):
    for file in (folder / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="test holds no image"):
        custom.load(Source("folder", str(folder)), "test")


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


def test_statistics_are_exact_and_of_few_images_at_a_time(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (33, 5, 4, 3), np.uint8)
    images[..., 2] = 77
    asked = []

    class Stored:
        shape = images.shape

        def __len__(self):
            return len(images)

        def __getitem__(self, rows):
            asked.append(len(rows))
            return images[rows]

    monkeypatch.setattr(custom, "_MEASURED_AT_ONCE", 8)
    mean, std = custom._statistics(Stored())
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, images.std(axis=(0, 1, 2)) / 255, rtol=1e-12, atol=1e-12)
    assert sum(asked) == 33
    assert max(asked) <= 8


def test_colour_if_any_image_has_colours(tmp_path, capsys):
    for split in ("train", "test"):
        for label in range(2):
            save(tmp_path / split, label, range(2), channels=3)
    file = tmp_path / "train" / "ant" / "000.png"
    Image.open(file).convert("L").save(file)
    assert custom.info(Source("folder", str(tmp_path))).image_shape == (6, 8, 3)
    assert "1 of 8 images is grey, others in colour: it is read as RGB" in capsys.readouterr().err
    assert custom.info(Source("folder", str(tmp_path), channels=1)).image_shape == (6, 8, 1)
    assert "grey" not in capsys.readouterr().err
    for each in tmp_path.rglob("*.png"):
        Image.open(each).convert("L").save(each)
    assert custom.info(Source("folder", str(tmp_path))).image_shape == (6, 8, 1)
    assert capsys.readouterr().err == ""


def test_what_is_left_out_is_counted_and_named(folder, capsys):
    ant = folder / "train" / "ant"
    picture = (ant / "000.png").read_bytes()
    (ant / "._000.png").write_bytes(b"of macOS")
    (ant / "gone.png").symlink_to(ant / "nothing")
    (ant / "itself.png").symlink_to("itself.png")
    (ant / "above").symlink_to(folder)
    (ant / "deep" / "er").mkdir(parents=True)
    (ant / "deep" / "er" / "photo").write_bytes(picture)
    (ant / "deep" / "again").symlink_to(ant / "deep" / "er")
    (folder / "train" / "loop").symlink_to(folder / "train")
    (folder / "train" / "list.csv").write_text("ant,000.png")
    (folder / "val").mkdir()
    (folder / "__MACOSX").mkdir()
    train = custom.load(Source("folder", str(folder)), "train")
    assert train.info.class_names == CLASSES
    assert train.class_counts.tolist() == [5, 5, 6]
    said = capsys.readouterr().err
    for each in (
        "hidden, or a system's own: 3 (__MACOSX, train/.hidden, train/ant/._000.png)",
        "a broken link: 2 (train/ant/gone.png, train/ant/itself.png)",
        "links to a folder above: 1 (train/loop)",
        "links to a folder above, or read already: 2 (train/ant/above, train/ant/deep/again)",
        "not an image that Pillow reads: 1 (train/ant/notes.txt)",
        "in no class's folder: 1 (train/list.csv)",
        "beside train and test: 1 (val)",
    ):
        assert f"{folder}: left out, {each}\n" in said
    custom.load(Source("folder", str(folder)), "test")
    assert capsys.readouterr().err == ""  # once


def test_other_pixels_of_the_same_names_and_sizes_are_other_data(folder):
    source = Source("folder", str(folder))
    file = folder / "test" / "cow" / "011.png"
    before, content = custom.fingerprint(source), bytearray(file.read_bytes())
    first = custom.load(source, "test").images.copy()
    assert custom.fingerprint(source) == before
    Image.fromarray(255 - draw(2, 11)).save(file)
    assert file.stat().st_size == len(content)
    assert custom.fingerprint(source) != before
    assert not np.array_equal(custom.load(source, "test").images, first)
    file.write_bytes(content)
    assert custom.fingerprint(source) == before


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


def test_a_maker_from_outside_gets_the_path_that_it_asks_for(tmp_path, monkeypatch):
    text = "import numpy as np\ndef at(*, path, number: int = 2):\n    x = np.zeros((4, 8, 8, 1), "
    text += "np.uint8)\n    return x, np.arange(4) % 2, x, np.arange(4) % 2, (path, 'b')\n"
    (tmp_path / "data_outside.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    source = custom.source("data_outside:at", {}, path="there")
    assert custom.info(source).class_names == ("there", "b")
