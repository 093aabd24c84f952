"""On an archive in the published layout; the published one was not at hand."""

import numpy as np
import pytest

from rbjax.data import datasets, load
from tests.data import examples

ARCHIVE = "tiny-imagenet-200.zip"
CLASSES = datasets.info("tiny_imagenet").class_names
RED, BLUE = CLASSES[2], CLASSES[7]


@pytest.fixture
def members():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    blue = red[..., ::-1]
    grey = np.full((64, 64), 90, np.uint8)
    root = "tiny-imagenet-200"
    return {
        f"{root}/wnids.txt": "\n".join(CLASSES[::-1]).encode(),
        f"{root}/words.txt": f"{RED}\tred thing, scarlet\n{BLUE}\tblue thing\nn1\tother".encode(),
        f"{root}/train/{BLUE}/images/{BLUE}_0.JPEG": examples.jpeg(blue),
        f"{root}/train/{RED}/{RED}_boxes.txt": b"",
        f"{root}/train/{RED}/images/{RED}_0.JPEG": examples.jpeg(red),
        f"{root}/train/{RED}/images/{RED}_1.JPEG": examples.jpeg(grey),
        f"{root}/val/images/val_0.JPEG": examples.jpeg(blue),
        f"{root}/val/images/val_1.JPEG": examples.jpeg(red),
        f"{root}/val/val_annotations.txt": (
            f"val_0.JPEG\t{BLUE}\t0\t0\t9\t9\nval_1.JPEG\t{RED}\t0\t0\t9\t9\n"
        ).encode(),
        f"{root}/test/images/test_0.JPEG": examples.jpeg(red),
    }


def _load(tmp_path, members, split):
    examples.write_zip(tmp_path / "downloads/manual" / ARCHIVE, members)
    return load("tiny_imagenet", split, data_dir=tmp_path)


def test_train_and_validation(members, tmp_path):
    train = _load(tmp_path, members, "train")
    assert train.labels.tolist() == [2, 2, 7]
    assert train.images.shape == (3, 64, 64, 3)
    means = train.images[:].mean(axis=(1, 2))
    np.testing.assert_allclose(means, [[200, 0, 0], [90, 90, 90], [0, 0, 200]], atol=3)
    test = load("tiny_imagenet", "test", data_dir=tmp_path)
    assert test.labels.tolist() == [7, 2]
    np.testing.assert_allclose(test.images[:].mean(axis=(1, 2))[0], [0, 0, 200], atol=3)


def test_classes_have_the_names_of_words_txt(members, tmp_path):
    names = _load(tmp_path, members, "test").info.class_names
    assert (names[2], names[7]) == ("red thing", "blue thing")
    assert names[0] == CLASSES[0]
    words = f"{RED}\tcrane\n{BLUE}\tcrane, bird".encode()
    again = {**members, "tiny-imagenet-200/words.txt": words}
    names = _load(tmp_path / "two", again, "test").info.class_names
    assert names[7] == f"crane ({BLUE})"


@pytest.mark.parametrize(
    ("name", "content", "split", "message"),
    [
        ("val/images/val_1.JPEG", b"\xff\xd8 no image", "test", "val_1.JPEG: not an image that"),
        ("val/images/val_2.JPEG", b"", "test", r"val_2.JPEG: val_annotations.txt does not name"),
        ("train/n0/images/n0_0.JPEG", b"", "train", "n0_0.JPEG: n0 is not a class of tiny_ima"),
        (
            f"train/{RED}/images/{RED}_0.JPEG",
            examples.jpeg(np.zeros((32, 64, 3), np.uint8)),
            "train",
            f"{RED}_0.JPEG: is 32 x 64 pixels; must be 64 x 64",
        ),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(
    members, tmp_path, name, content, split, message
):
    members[f"tiny-imagenet-200/{name}"] = content
    with pytest.raises(ValueError, match=message) as caught:
        _load(tmp_path, members, split)
    assert ARCHIVE in str(caught.value)
    assert list((tmp_path / "rbjax/mapped/tiny_imagenet").iterdir()) == []


def test_a_cut_jpeg_is_refused(members, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    members["tiny-imagenet-200/val/images/val_0.JPEG"] = examples.jpeg(noise)[:1000]
    with pytest.raises(ValueError, match=r"val_0.JPEG: not an image that can be read \(image file"):
        _load(tmp_path, members, "test")


@pytest.mark.parametrize("below", ["", "images/"])
@pytest.mark.parametrize("with_table", [True, False])
def test_validation_images_sorted_into_folders(members, tmp_path, below, with_table, capsys):
    root = "tiny-imagenet-200"
    for number, of in ((0, BLUE), (1, RED)):
        content = members.pop(f"{root}/val/images/val_{number}.JPEG")
        members[f"{root}/val/{of}/{below}val_{number}.JPEG"] = content
        members[f"{root}/val/{of}/{below}._val_{number}.JPEG"] = b"of macOS"
        members[f"__MACOSX/{root}/val/{of}/{below}val_{number}.JPEG"] = b"of macOS"
    if not with_table:
        del members[f"{root}/val/val_annotations.txt"]
    test = _load(tmp_path, members, "test")
    assert test.labels.tolist() == [2, 7]
    np.testing.assert_allclose(test.images[:].mean(axis=(1, 2))[1], [0, 0, 200], atol=3)
    said = capsys.readouterr().err
    assert "4 files of macOS's (._*) are left out" in said
    assert "tiny_imagenet test has 2 examples; published are 10,000" in said
    if with_table:
        members[f"{root}/val/val_annotations.txt"] = f"val_1.JPEG\t{BLUE}".encode()
        with pytest.raises(ValueError, match=rf"val_1.JPEG: val_annotations.txt says .* {BLUE}"):
            _load(tmp_path / "two", members, "test")


def test_an_encrypted_archive_is_named(members, tmp_path):
    archive = examples.write_zip(tmp_path / "downloads/manual" / ARCHIVE, members)
    content = archive.read_bytes()
    for signature, place in ((b"PK\x03\x04", 2), (b"PK\x01\x02", 4)):
        first, *parts = content.split(signature)
        content = signature.join([first, *(p[:place] + b"\1" + p[place + 1 :] for p in parts)])
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: .* is damaged \(.*encrypted") as caught:
        load("tiny_imagenet", "train", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_unpacks_to_anything_is_refused(members, tmp_path, monkeypatch):
    monkeypatch.setattr("rbjax.data.builders.members._MOST_BYTES", 100_000)
    members[f"tiny-imagenet-200/train/{RED}/images/{RED}_0.JPEG"] = bytes(100_001)
    with pytest.raises(ValueError, match=rf"{RED}_0.JPEG: is larger than 100,000 bytes"):
        _load(tmp_path, members, "train")
