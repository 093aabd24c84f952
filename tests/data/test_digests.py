"""Prepared data that are mapped into memory: damage is found, sound data are read as they are."""

import json

import numpy as np
import pytest

from rbjax.data import digests, info
from rbjax.data.alignmnist import generated
from rbjax.data.builders import mapped

TINY = info("tiny_imagenet")
COUNT = 50  # of 12,288 bytes each: three blocks, the last of them short


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, *TINY.image_shape), np.uint8)


@pytest.fixture
def folder(pixels, tmp_path):
    """As preparation leaves it."""
    pixels.tofile(tmp_path / mapped._PIXELS)
    np.save(tmp_path / mapped._LABELS, np.arange(COUNT, dtype=np.int32))
    about = {"format": 1, "image_shape": TINY.image_shape, "class_names": TINY.class_names}
    mapped._describe(tmp_path, about, COUNT)
    return tmp_path


def flip(path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_sound_data_are_read_as_they_are(folder, pixels, monkeypatch, capsys):
    for at_once in (digests._AT_ONCE, 0):
        monkeypatch.setattr(digests, "_AT_ONCE", at_once)
        images, labels, names = mapped._read(folder, TINY)
        for rows in (3, -1, slice(20, 43), np.array([49, 0, 0, 21]), np.arange(COUNT) % 7 == 0):
            np.testing.assert_array_equal(images[rows], pixels[rows])
        np.testing.assert_array_equal(np.asarray(images), pixels)
        assert labels.tolist() == list(range(COUNT))
        assert names == TINY.class_names
    assert capsys.readouterr().err == ""


def test_every_flipped_bit_is_found(folder):
    rng = np.random.default_rng(1)
    for name in (mapped._PIXELS, mapped._LABELS, mapped._ABOUT):
        size = (folder / name).stat().st_size
        for place in (0, size - 1, *rng.integers(0, size, 10).tolist()):
            bit = int(rng.integers(8))
            flip(folder / name, place, bit)
            with pytest.raises(ValueError, match=rf"{name}.* damaged.*delete {folder}") as error:
                mapped._read(folder, TINY)
            assert "\n" not in str(error.value)
            flip(folder / name, place, bit)
    mapped._read(folder, TINY)


def test_a_block_of_a_large_file_is_checked_when_it_is_read(folder, pixels, monkeypatch):
    monkeypatch.setattr(digests, "_AT_ONCE", 0)
    flip(folder / mapped._PIXELS, 25 * pixels[0].nbytes)
    images, _, _ = mapped._read(folder, TINY)
    np.testing.assert_array_equal(images[:21], pixels[:21])
    for _ in range(2):  # a damaged block does not become a sound one
        with pytest.raises(ValueError, match=r"images.u8: block 1 \(images 21 to 41\) is damaged"):
            images[np.array([0, 30])]
    np.testing.assert_array_equal(images[42:], pixels[42:])
    asked = []
    monkeypatch.setattr(digests.zlib, "crc32", lambda block: asked.append(block))
    np.testing.assert_array_equal(images[:21], pixels[:21])
    assert not asked  # once in a process


def test_data_without_digests_get_them_once(folder, capsys):
    about = json.loads((folder / mapped._ABOUT).read_text())
    old = {name: about[name] for name in ("format", "image_shape", "class_names")}
    (folder / mapped._ABOUT).write_text(json.dumps(old))
    for said in (f"{folder}: prepared without digests, which are made now, once\n", ""):
        mapped._read(folder, TINY)
        assert capsys.readouterr().err == said
    assert json.loads((folder / mapped._ABOUT).read_text()) == about


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "recursion"),
        ("\0\xff", "damaged"),
        ("[1, 2]", "has the fields none"),
        ('{"format": 1}', "has the fields format"),
        ({"format": 7}, "format is 7"),
        ({"image_shape": [64, 64, 1]}, r"image_shape is \[64, 64, 1\]"),
        ({"image_shape": None}, "image_shape is None"),
        ({"class_names": ["a"]}, "class_names are not 200 different names"),
        ({"class_names": 5}, "class_names are not 200"),
        ({"class_names": [["a"]] * 200}, "class_names are not 200"),
        ({"digest": 1}, "has the fields class_names, digest"),
    ],
)
def test_a_damaged_description_is_named(folder, content, fault):
    if isinstance(content, dict):
        about = {"format": 1, "image_shape": TINY.image_shape, "class_names": TINY.class_names}
        content = json.dumps({**about, **content})
    (folder / mapped._ABOUT).write_text(content)
    with pytest.raises(ValueError, match=rf"about.json: is damaged \(.*{fault}") as error:
        mapped._read(folder, TINY)
    assert "\n" not in str(error.value)


def test_a_damaged_generated_block_is_made_again(tmp_path, monkeypatch, capsys):
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), np.uint8)
    made = generated.Maker(images, np.arange(20, dtype=np.int32) % 10, tmp_path)
    monkeypatch.setattr(generated.Maker, "covariances", lambda self: np.zeros((10, 2, 2)))
    monkeypatch.setattr(generated, "deform", lambda images, *_, **__: images[::-1])
    (tmp_path / made._digest()).mkdir()
    right = np.array(made.block(1))
    (file,) = tmp_path.rglob("block-*.npy")
    capsys.readouterr()
    np.testing.assert_array_equal(made.block(1), right)
    assert capsys.readouterr().err == ""
    for damage in (lambda: flip(file, 5000, 7), lambda: file.write_bytes(file.read_bytes()[:-1])):
        damage()
        np.testing.assert_array_equal(made.block(1), right)
        assert f"{file} is damaged" in capsys.readouterr().err
    file.with_name(f"{file.name}.crc32").unlink()
    np.testing.assert_array_equal(made.block(1), right)
    assert "made without a digest" in capsys.readouterr().err
    flip(file, 5000)
    np.testing.assert_array_equal(made.block(1), right)
