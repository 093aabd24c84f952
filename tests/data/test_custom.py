"""One's own data: folders of images and arrays, and what is said of those that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rbjax import inputs
from rbjax.data import custom, own_images, scale
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
    with pytest.raises(
        ValueError, match=r"of 3 sizes, height x width: 4 of 12 x 12 \(test/ant/000.png\); 4 of 6"
    ):
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
    monkeypatch.setattr(own_images, "_MOST_IN_MEMORY", 0)
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


def test_damaged_images_are_named(folder):
    damaged = folder / "train" / "bee" / "001.png"
    whole = damaged.read_bytes()
    for data in (b"", b"not an image", whole[:60], whole[:-40]):
        damaged.write_bytes(data)
        with pytest.raises(ValueError, match=r"bee/001.png: not an image that can be read"):
            custom.load(Source("folder", str(folder)), "train")


def test_folders_that_do_not_fit(tmp_path):
    def refused(path, message, **options):
        with pytest.raises(ValueError, match=message):
            custom.load(Source("folder", str(path), **options), "train")

    refused(tmp_path / "nowhere", "no such folder")
    refused("a" * 300, "cannot be read .*name too long")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "no such folder")
    save(tmp_path / "one", 0, range(3))
    refused(tmp_path / "one", "holds 1 classes; must be at least 2")
    save(tmp_path / "untested" / "train", 0, range(3))
    save(tmp_path / "untested" / "train", 1, range(3))
    with pytest.raises(ValueError, match=r"split test holds no image .*; there are those of tr"):
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


def test_statistics_are_exact_and_of_few_images_at_a_time(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (33, 5, 4, 3), np.uint8)
    images[..., 2] = 77
    asked = []

    class Stored:
        shape, dtype = images.shape, images.dtype

        def __len__(self):
            return len(images)

        def __getitem__(self, rows):
            asked.append(len(rows))
            return images[rows]

    monkeypatch.setattr(inputs, "_AT_ONCE", 8 * 5 * 4 * 3 * 4 + 1)  # bytes of 8 images
    mean, std, largest = scale.measure(Stored())
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, images.std(axis=(0, 1, 2)) / 255, rtol=1e-12, atol=1e-12)
    assert largest == images.max() / 255
    assert sum(asked) == 33
    assert max(asked) <= 8


def test_colour_if_any_image_has_colours(tmp_path, capsys):
    for split in ("train", "test"):
        for label in range(2):
            save(tmp_path / split, label, (0, 1) if split == "train" else (8, 9), channels=3)
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


def test_a_maker_from_outside_gets_the_path_that_it_asks_for(tmp_path, monkeypatch):
    text = "import numpy as np\ndef at(*, path, number: int = 2):\n    x = np.zeros((4, 8, 8, 1), "
    text += "np.uint8)\n    return x, np.arange(4) % 2, x, np.arange(4) % 2, (path, 'b')\n"
    (tmp_path / "data_outside.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    source = custom.source("data_outside:at", {}, path="there")
    assert custom.info(source).class_names == ("there", "b")
