"""AlignMNIST by its names in the registry; its own tests are in test_alignmnist.py."""

import numpy as np
import pytest

from rbjax.data import DatasetNotFoundError, alignmnist, builders, info, load


@pytest.fixture
def asked(monkeypatch):
    """Stands for both readers: what they were asked for."""
    calls = []
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), np.uint8)

    def reader(name):
        def read(split, folder):
            calls.append((name, split, folder))
            return images, np.arange(20) % 10

        return read

    monkeypatch.setattr(alignmnist, "load_split", reader("published"))
    monkeypatch.setattr(alignmnist, "load_generated_split", reader("generated"))
    return calls


def test_each_name_has_its_reader(asked, tmp_path):
    dataset = load("alignmnist_generated", "block_2", data_dir=tmp_path)
    assert dataset.info.name == "alignmnist_generated"
    load("alignmnist", "train", data_dir=tmp_path)
    assert asked == [("generated", "block_2", tmp_path), ("published", "train", tmp_path)]


def test_the_published_file_may_come_from_a_path(asked, tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"x and y")
    load("alignmnist", "block_1", data_dir=tmp_path / "to", source=tmp_path / "mine.npz")
    assert (tmp_path / "to/downloads/manual/alignmnist.npz").read_bytes() == b"x and y"


def test_a_wrong_published_file_does_not_stay(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"x and y")
    with pytest.raises(ValueError, match=r"alignmnist.npz is truncated or damaged"):
        load("alignmnist", "train", data_dir=tmp_path / "to", source=tmp_path / "mine.npz")
    assert not (tmp_path / "to/downloads/manual/alignmnist.npz").exists()


def test_it_is_not_downloaded_from_the_page_that_describes_it(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"alignmnist.npz is missing"):
        load("alignmnist", "block_1", data_dir=tmp_path)


def test_it_has_no_test_split(tmp_path):
    with pytest.raises(ValueError, match=r"alignmnist split 'test' is unknown; allowed: train, bl"):
        load("alignmnist", "test", data_dir=tmp_path)


def test_where_what_is_prepared_lies(tmp_path):
    known = info("tiny_imagenet")
    assert builders.stored(known, tmp_path) == ""
    archive = tmp_path / "downloads/manual/tiny-imagenet-200.zip"
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert builders.stored(known, tmp_path) == str(archive)
    prepared = tmp_path / "rbjax/mapped/tiny_imagenet"
    prepared.mkdir(parents=True)
    assert builders.stored(known, tmp_path) == str(prepared)
