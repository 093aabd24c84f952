"""On records made in exactly the published schema; the published files were not at hand."""

import zipfile

import numpy as np
import pytest

from rbjax.data import (
    DatasetNotFoundError,
    builders,
    card,
    datasets,
    images,
    imbalance,
    load,
    load_train,
    prepare,
    storage,
)
from tests.data import examples

ARCHIVE = "dw_train_86K_val_10K.zip"
LABELS = [0] * 12 + [1] * 3 + [2] * 3 + [3] * 2  # 60, 15, 15 and 10 %


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 65, 65, 11), np.uint8)


@pytest.fixture(scope="module")
def parts(pixels):
    order = np.random.default_rng(1).permutation(20)
    labels = np.array(LABELS)[order].tolist()
    return labels, {
        "dw/train/part-r-00000": examples.droughtwatch(pixels[:13], labels[:13]),
        "dw/train/part-r-00001": examples.droughtwatch(pixels[13:], labels[13:]),
        "dw/train/_SUCCESS": b"",
        "dw/val/part-r-00000": examples.droughtwatch(pixels[:2], [3, 0]),
    }


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    known = datasets.info("droughtwatch")._replace(num_examples={"train": 20, "test": 2})
    monkeypatch.setitem(datasets.DATASETS, "droughtwatch", known)


@pytest.fixture
def archive(parts, tmp_path):
    return examples.write_zip(tmp_path / "downloads/manual" / ARCHIVE, parts[1])


def test_every_band_of_every_record_in_the_stored_order(archive, parts, pixels, tmp_path, capsys):
    train = load("droughtwatch", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(train.images[:], pixels)
    assert isinstance(images.base(train.images), np.memmap)
    assert train.labels.tolist() == parts[0]
    assert train.class_counts.tolist() == [12, 3, 3, 2]
    np.testing.assert_array_equal(train.example_ids, np.arange(20))
    test = load("droughtwatch", "test", data_dir=tmp_path)
    assert test.labels.tolist() == [3, 0]
    assert "published are" not in capsys.readouterr().err


def test_it_is_prepared_once_and_needs_the_archive_no_more(archive, tmp_path):
    first = load("droughtwatch", "train", data_dir=tmp_path)
    archive.unlink()
    again = load("droughtwatch", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(first.images, again.images)
    assert [p.name for p in (tmp_path / "rbjax/mapped/droughtwatch").iterdir()] == ["train"]


def test_an_unpacked_folder_serves_too(archive, pixels, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(archive.with_name("droughtwatch"))
    archive.unlink()
    train = load("droughtwatch", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(train.images[3:5], pixels[3:5])


def test_another_number_of_examples_is_said(archive, tmp_path, monkeypatch, capsys):
    known = datasets.info("droughtwatch")._replace(num_examples={"train": 86317, "test": 2})
    monkeypatch.setitem(datasets.DATASETS, "droughtwatch", known)
    train = load("droughtwatch", "train", data_dir=tmp_path)
    assert train.info.num_examples["train"] == 20
    assert "train has 20 examples; published are 86,317" in capsys.readouterr().err


def test_bands_are_chosen_in_the_order_given(archive, pixels, tmp_path):
    some = load("droughtwatch", "train", data_dir=tmp_path, bands=("B6", "B5", "B2"))
    assert some.images.shape == (20, 65, 65, 3)
    taken = some.take(np.array([4, 1])).images
    np.testing.assert_array_equal(taken[:], pixels[[4, 1]][..., [5, 4, 1]])
    assert some.info.channel_names == ("B6", "B5", "B2")
    assert some.info.mean == (0.718, 0.734, 0.675)
    assert some.info.std == (0.172, 0.168, 0.195)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (("B12",), r"droughtwatch band 'B12' is unknown; allowed: B1, .*did you mean"),
        (("B1", "B1"), r"dataset.bands = \['B1', 'B1'\]: each band at most once"),
    ],
)
def test_bands_it_does_not_have(bands, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load("droughtwatch", "train", data_dir=tmp_path, bands=bands)


def test_subsampling_acts_on_the_natural_imbalance(archive, tmp_path):
    def profile(counts):
        return imbalance.create("power", class_counts=counts, power=0.5)

    train, validation = load_train(
        "droughtwatch", data_dir=tmp_path, validation_fraction=0.3, imbalance=profile
    )
    assert validation is not None
    assert validation.class_counts.tolist() == [4, 1, 1, 1]  # of each class, floor(.3 n + 1/2)
    assert train.class_counts.tolist() == [2, 1, 1, 1]  # of 8, 2, 2 and 1
    assert not isinstance(train.images, np.ndarray)  # nothing was read
    everything = load("droughtwatch", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(train.images[:], everything.images[train.index])


def _damaged(archive, change):
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    examples.write_zip(archive, change(members))


def _replaced(members, content):
    return {**members, "dw/train/part-r-00001": content}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: _replaced(m, m["dw/train/part-r-00001"][:-10]),
            "part-r-00001: ends inside record 6: the file is truncated",
        ),
        (
            lambda m: _replaced(m, m["dw/train/part-r-00001"].replace(b"label", b"label"[::-1])),
            "part-r-00001: record 0 is damaged",
        ),
        (
            lambda m: _replaced(m, examples.droughtwatch(np.zeros((1, 65, 65, 11), np.uint8), [4])),
            r"part-r-00001: record 0: label is 4; must be in 0..3",
        ),
        (
            lambda m: _replaced(m, examples.tfrecord([examples.example({"B1": [b""]})])),
            "part-r-00001: record 0: has no B2, .*, label; it has B1",
        ),
        (
            lambda m: _replaced(m, examples.droughtwatch(np.zeros((1, 64, 65, 11), np.uint8), [0])),
            "part-r-00001: record 0: B1 has 4164 bytes; must be 4225 or more",
        ),
        (lambda m: {"dw/val/part-0": m["dw/val/part-r-00000"]}, f"{ARCHIVE}: holds no images of"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_left(archive, tmp_path, change, message):
    _damaged(archive, change)
    with pytest.raises(ValueError, match=message) as caught:
        load("droughtwatch", "train", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "rbjax/mapped/droughtwatch").iterdir()) == []


def test_flipped_bits_in_the_archive(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 16
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{ARCHIVE}: dw/train/part-r-0000.: .*is damaged"):
        load("droughtwatch", "train", data_dir=tmp_path)
    archive.write_bytes(content[:5000])
    with pytest.raises(ValueError, match=f"{ARCHIVE}: not a zip archive, or a damaged one"):
        load("droughtwatch", "train", data_dir=tmp_path)
    assert list((tmp_path / "rbjax/mapped/droughtwatch").iterdir()) == []


def test_a_damaged_decoded_file_is_made_again(archive, pixels, tmp_path):
    load("droughtwatch", "train", data_dir=tmp_path)
    path = tmp_path / "rbjax/mapped/droughtwatch/train/images.u8"
    path.write_bytes(path.read_bytes()[:-1])
    train = load("droughtwatch", "train", data_dir=tmp_path)
    np.testing.assert_array_equal(train.images[:], pixels)


def test_from_an_archive_a_folder_or_a_mirror(archive, pixels, tmp_path, monkeypatch):
    known = datasets.info("droughtwatch")
    for number, source in enumerate((archive, archive.parent)):
        to = tmp_path / str(number)
        builders.read(known, "test", to, source)
        assert (to / "downloads/manual" / ARCHIVE).exists()
        np.testing.assert_array_equal(load("droughtwatch", "test", data_dir=to).images, pixels[:2])
    monkeypatch.setenv(prepare.MIRROR, str(archive.parent))
    assert load("droughtwatch", "test", data_dir=tmp_path / "env").num_examples == 2


def test_a_wrong_file_does_not_stay_in_the_place_of_the_right_one(archive, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no archive")
    other = examples.write_zip(tmp_path / "other.zip", {"readme": b"of something else"})
    to = tmp_path / "to"
    for file, message in ((wrong, "not a zip archive"), (other, "holds no images of droughtwatch")):
        with pytest.raises(ValueError, match=message):
            load("droughtwatch", "test", data_dir=to, source=file)
        assert file.exists()
        assert not (to / "downloads/manual" / ARCHIVE).exists()
    load("droughtwatch", "test", data_dir=to, source=archive)
    # What was placed by hand is left to the person who did.
    archive.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a zip archive"):
        load("droughtwatch", "test", data_dir=tmp_path)
    assert archive.exists()


def test_without_a_file_or_a_network_it_says_how_to_go_on(tmp_path, monkeypatch):
    file = datasets.info("droughtwatch").files[0]._replace(url="http://127.0.0.1:9/dw.zip")
    known = datasets.info("droughtwatch")._replace(files=(file,))
    monkeypatch.setitem(datasets.DATASETS, "droughtwatch", known)
    with pytest.raises(DatasetNotFoundError, match=f"the path of {ARCHIVE} with --from"):
        load("droughtwatch", "train", data_dir=tmp_path)
    assert storage.find("droughtwatch", tmp_path) is None


def test_a_card_counts_what_is_prepared_and_prepares_nothing(archive, tmp_path):
    known = datasets.info("droughtwatch")
    text = card.card(known, tmp_path)
    assert f"stored   {archive}" in text.replace("\n" + 9 * " ", " ")
    assert "classes  0 cows, 1 cow, 2 cows, 3 cows" in text
    assert not (tmp_path / "rbjax").exists()
    load("droughtwatch", "train", data_dir=tmp_path)
    assert "  0  0 cows      12" in card.card(known, tmp_path)
