"""ImageNet's validation images in both layouts: labels by WordNet id, pixels as torchvision's."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from rbjax.data import custom, imagenet_folder
from rbjax.data.class_names import IMAGENET
from rbjax.data.imagenet_names import NAMES
from tests.data import imagenet_like
from tests.data.imagenet_like import CHINA, DEVKIT_ID, FLAT, FLOWER, HOPPER


def as_torchvision(picture: Image.Image, resized: int, cropped: int) -> np.ndarray:
    """Returns what Resize(resized) and CenterCrop(cropped) make of a picture, as documented."""
    short, long = sorted(picture.size)
    longer = int(resized * long / short)
    size = (resized, longer) if picture.width == short else (longer, resized)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - cropped) / 2.0) for side in picture.size)
    return np.asarray(picture.crop((left, top, left + cropped, top + cropped)))


def load(path, **options):
    return custom.load(custom.source("imagenet_folder", options, path=str(path)), "test")


def refused(path, **options) -> str:
    with pytest.raises(ValueError, match=r"dataset\.(path|devkit|image_size)") as error:
        load(path, **options)
    return str(error.value)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return imagenet_like.save_flat(tmp_path_factory.mktemp("flat") / "ILSVRC2012_img_val")


def test_names_are_those_of_wordnet():
    known = {0: "n01440764 tench", 134: "n02012849 crane", 999: "n15075141 toilet tissue"}
    assert {row: NAMES[row] for row in known} == known
    assert [name.partition(" ")[0] for name in NAMES] == [*IMAGENET] == sorted(IMAGENET)


def test_class_folders_are_labelled_by_their_wordnet_id(tmp_path, capsys):
    test = load(imagenet_like.save_folders(tmp_path / "val"))
    # Not 0, 1, 2, the places of the three folders that are there.
    assert test.labels.tolist() == [652, 652, 698, 698, 985, 985]
    assert test.info.class_names[652] == "n03763968 military uniform"
    assert test.info.num_examples == {"test": 6}
    assert test.class_counts.shape == (1000,)
    assert "6 images of 3 of the 1,000 classes; published are 50 of each" in capsys.readouterr().err
    # CMYK, grey, RGB; a second file of a folder is mirrored, and a JPEG.
    for row, wordnet_id in ((1, HOPPER), (3, CHINA), (5, FLOWER)):
        photograph = imagenet_like.photographs()[wordnet_id]
        mode = "L" if wordnet_id == CHINA else "RGB"
        mirrored = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert(mode)
        expected = as_torchvision(mirrored.convert("RGB"), 256, 224).astype(int)
        assert np.abs(test.images[row] - expected).mean() < 4


def test_flat_images_are_labelled_by_the_development_kit(flat, capsys):
    # Its numbers are in an order of their own: that of the daisy is not 985 + 1.
    assert DEVKIT_ID[FLOWER] == 896
    test = load(flat)
    assert test.labels.tolist() == [IMAGENET.index(FLAT[number]) for number in sorted(FLAT)]
    assert "4 images of 3 of the 1,000 classes" in capsys.readouterr().err
    archive = imagenet_like.packed(flat.parent / "ILSVRC2012_devkit_t12")
    for kit in (archive, archive.with_name("ILSVRC2012_devkit_t12") / "data"):
        np.testing.assert_array_equal(load(flat, devkit=str(kit)).labels, test.labels)


def test_without_the_development_kit_the_labels_are_those_of_tfds(flat, tmp_path):
    shutil.copytree(flat, tmp_path / "val")
    test = load(tmp_path / "val")
    # Images 1, 2, 3 and 5 of the published set: a sea snake, an alp, a sheepdog, a cradle.
    classes = ["n01751748", "n09193705", "n02105855", "n03125729"]
    assert [test.info.class_names[label][:9] for label in test.labels] == classes
    assert np.bincount(imagenet_folder._of_tfds()).tolist() == [50] * 1000
    photograph = imagenet_like.photographs()[FLOWER]
    photograph.save(tmp_path / "val/ILSVRC2012_val_00050001.JPEG")
    assert "TFDS has those of images 1 to 50,000" in refused(tmp_path / "val")


@pytest.mark.parametrize(("resized", "cropped"), [(256, 224), (342, 299)])
def test_pixels_are_those_of_torchvision(tmp_path, resized, cropped):
    photograph = imagenet_like.photographs()[CHINA]
    for number, size in enumerate([(640, 427), (427, 639), (300, 301), (90, 211), (343, 257)]):
        file = tmp_path / f"{number}.png"
        photograph.crop((0, 0, *size)).save(file)
        with Image.open(file) as picture:
            expected = as_torchvision(picture, resized, cropped)
        shape = (cropped, cropped, 3)
        np.testing.assert_array_equal(imagenet_folder.read(file, shape), expected)


def test_exif_does_not_turn_and_the_right_size_is_not_scaled(tmp_path):
    photograph = imagenet_like.photographs()[CHINA].crop((0, 0, 300, 224))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    photograph.save(tmp_path / "turned.png", exif=exif)
    read = imagenet_folder.read(tmp_path / "turned.png", (224, 224, 3))
    np.testing.assert_array_equal(read, as_torchvision(photograph, 256, 224))
    square = photograph.crop((0, 0, 224, 224))
    square.save(tmp_path / "square.png")
    read = imagenet_folder.read(tmp_path / "square.png", (224, 224, 3))
    np.testing.assert_array_equal(read, np.asarray(square))


def test_a_fingerprint_is_of_contents_and_labels(flat, tmp_path):
    shutil.copytree(flat.parent, tmp_path / "copy")
    copied = tmp_path / "copy" / flat.name

    def fingerprint(path):
        return custom.fingerprint(custom.source("imagenet_folder", {}, path=str(path)))

    before = fingerprint(copied)
    assert fingerprint(flat) == before
    truth = copied.parent / "ILSVRC2012_devkit_t12/data" / imagenet_folder._TRUTH
    truth.write_text("1\n" + truth.read_text().partition("\n")[2])
    assert fingerprint(copied) != before


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    folders = imagenet_like.save_folders(tmp_path / "val")
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert f"did you mean {str(folders)!r}?" in refused(tmp_path)
    (folders / "daisy").mkdir()
    assert "daisy is not called by a class's WordNet id, such as n01440764" in refused(folders)
    (folders / "daisy").rename(folders / "n01440765")
    line = refused(folders)
    assert "is none of ImageNet's 1,000 classes" in line
    assert "n01440764" in line
    (folders / "n01440765").rename(folders / "n01440764")
    assert "n01440764 holds no image" in refused(folders)
    with pytest.raises(ValueError, match="split 'train' is unknown; allowed: test"):
        custom.load(custom.source("imagenet_folder", {}, path=str(folders)), "train")
    line = refused(folders, image_size=(224,))
    assert "dataset.image_size = (224,): must be height and width" in line


def test_what_is_wrong_with_flat_images_is_said(flat, tmp_path):
    shutil.copytree(flat, tmp_path / "val")
    val, kit = tmp_path / "val", flat.parent / "ILSVRC2012_devkit_t12"
    assert "no such folder or archive" in refused(val, devkit=str(tmp_path / "kit"))
    assert "holds no data/meta.mat" in refused(val, devkit=str(val))
    photograph = imagenet_like.photographs()[FLOWER]
    photograph.save(val / "ILSVRC2012_val_00000007.JPEG")
    assert "has those of images 1 to 6" in refused(val, devkit=str(kit))
    (val / "ILSVRC2012_val_00000007.JPEG").rename(val / "ILSVRC2012_val_00000005.png")
    assert "are of one number; leave one" in refused(val, devkit=str(kit))
    (val / "ILSVRC2012_val_00000005.png").rename(val / "daisy.jpg")
    line = refused(val, devkit=str(kit))
    assert "daisy.jpg has no label" in line
    assert "of 5 images 1 are called otherwise" in line
    (val / "daisy.jpg").unlink()
    shutil.copytree(kit, tmp_path / "kit")
    truth = tmp_path / "kit/data" / imagenet_folder._TRUTH
    truth.write_text("1\n1001\n")
    assert "line 2 is '1001'; must be a class's number, 1 to" in refused(
        val, devkit=str(tmp_path / "kit")
    )
    (tmp_path / "kit/data/meta.mat").write_bytes(b"no matrix")
    assert "is not the development kit's" in refused(val, devkit=str(tmp_path / "kit"))
