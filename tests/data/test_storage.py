import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rbjax.data import DatasetNotFoundError, load, storage

# TFDS itself writes MNIST's first images, once as `tfds.load` does and once by way of `prepare`.
_PREPARE = """
import hashlib, pathlib, sys
import numpy as np
import tensorflow_datasets as tfds
from rbjax.data import prepare

folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(0)

def examples(count):
    for row in range(count):
        yield row, {"image": rng.integers(0, 256, (28, 28, 1), np.uint8), "label": row % 10}

tfds.builder_cls("mnist")._split_generators = lambda self, manager: {
    "train": examples(50), "test": examples(20)}
prepare.reachable = lambda url: True
fetch, prepare.fetch = prepare.fetch, lambda file, folder: None
prepare.prepare("mnist", folder / "array_record")
prepare.fetch = fetch
rng = np.random.default_rng(0)
tfds.builder("mnist", data_dir=folder / "tfrecord").download_and_prepare()
data = tfds.load("mnist", data_dir=folder / "tfrecord", split="train")
images, labels = zip(*((e["image"], e["label"]) for e in data.as_numpy_iterator()))
np.savez(folder / "expected.npz", images=images, labels=labels)

# A dataset with configs, whose files come from a folder; its host is out of reach.
prepare.reachable = lambda url: False
mirror = folder / "mirror"
mirror.mkdir()
np.save(mirror / "cifar10.1_v6_data.npy", rng.integers(0, 256, (20, 32, 32, 3), np.uint8))
np.save(mirror / "cifar10.1_v6_labels.npy", np.arange(20, dtype=np.int32) % 10)
checksums = tfds.core.download.checksums
tfds.builder_cls("cifar10_1").url_infos = {
    f"https://github.com/modestyachts/CIFAR-10.1/blob/master/datasets/{p.name}?raw=true":
    checksums.UrlInfo(p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest(), p.name)
    for p in mirror.iterdir()}
prepare.prepare("cifar10_1/v6", folder / "configs", mirror)

# Droughtwatch's records, as TensorFlow writes them.
import tensorflow as tf

part = folder / "drought/downloads/manual/droughtwatch/val"
part.mkdir(parents=True)
bands = rng.integers(0, 256, (5, 65, 65, 11), np.uint8)
with tf.io.TFRecordWriter(str(part / "part-r-00000")) as writer:
    for label, image in enumerate(bands):
        feature = {f"B{i + 1}": tf.train.Feature(bytes_list=tf.train.BytesList(
            value=[image[..., i].tobytes()])) for i in range(11)}
        feature["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label % 4]))
        feature["extra"] = tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())
np.save(folder / "bands.npy", bands)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, "-c", _PREPARE, str(folder)],
        check=True,
        capture_output=True,
        env=environment,
    )
    return folder


@pytest.fixture
def tfrecord(prepared, tmp_path):
    shutil.copytree(prepared / "tfrecord", tmp_path / "tfrecord")
    return tmp_path / "tfrecord"


@pytest.fixture
def array_record(prepared, tmp_path):
    shutil.copytree(prepared / "array_record" / "mnist", tmp_path / "ours" / "mnist")
    return tmp_path / "ours"


@pytest.fixture
def decodings(monkeypatch):
    """Counts how often a split is decoded."""
    calls = []
    decode = storage.decode
    monkeypatch.setattr(storage, "decode", lambda *args: calls.append(args) or decode(*args))
    return calls


def test_a_first_preparation_is_array_record(array_record):
    info = json.loads((array_record / "mnist/3.0.1/dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    images, labels = storage.read("mnist", "train", array_record)
    assert images.shape == (50, 28, 28, 1)
    assert np.bincount(labels).tolist() == [5] * 10


def test_a_tfrecord_copy_is_converted_once_and_reads_the_same(tfrecord, prepared):
    folder = tfrecord / "mnist" / "3.0.1"
    before = sorted(path.name for path in folder.iterdir())
    images, labels = storage.read("mnist", "train", tfrecord)
    with np.load(prepared / "expected.npz") as expected:
        np.testing.assert_array_equal(images, expected["images"])
        np.testing.assert_array_equal(labels, expected["labels"])
    converted = tfrecord / "rbjax/array_record/mnist/3.0.1"
    assert {p.name for p in converted.iterdir()} >= {
        "dataset_info.json",
        "features.json",
        "mnist-test.array_record-00000-of-00001",
        "mnist-train.array_record-00000-of-00001",
    }
    assert sorted(path.name for path in folder.iterdir()) == before
    written = converted.stat().st_mtime_ns
    assert storage.as_array_record(folder, tfrecord) == converted
    assert converted.stat().st_mtime_ns == written
    assert len(list(converted.parent.iterdir())) == 1  # nothing temporary is left


def test_both_preparations_give_the_same_dataset(tfrecord, array_record):
    one, two = (
        load("mnist", "test", data_dir=tfrecord),
        load("mnist", "test", data_dir=array_record),
    )
    np.testing.assert_array_equal(one.example_ids, two.example_ids)
    assert one.images.shape == two.images.shape == (20, 28, 28, 1)


def test_a_truncated_tfrecord_is_refused_and_nothing_is_left(tfrecord):
    path = tfrecord / "mnist/3.0.1/mnist-test.tfrecord-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"tfrecord-00000-of-00001: ends inside record 19"):
        storage.read("mnist", "test", tfrecord)
    assert list((tfrecord / "rbjax/array_record/mnist").iterdir()) == []


def test_a_missing_file_is_named(array_record):
    (array_record / "mnist/3.0.1/mnist-test.array_record-00000-of-00001").unlink()
    with pytest.raises(
        DatasetNotFoundError, match=r"is incomplete: mnist-test\.array_record-00000"
    ):
        storage.read("mnist", "test", array_record)


def test_another_format_is_refused(array_record):
    path = array_record / "mnist/3.0.1/dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "riegeli"))
    with pytest.raises(DatasetNotFoundError, match="holds mnist as riegeli"):
        storage.as_array_record(path.parent, array_record)


def test_the_newest_version_is_used(array_record):
    folder = array_record / "mnist"
    for version in ("3.0.0", "3.0.10", "incomplete.ABC_4.0.0"):
        shutil.copytree(folder / "3.0.1", folder / version)
    (folder / "5.0.0").mkdir()
    assert storage.find("mnist", array_record) == folder / "3.0.10"
    assert storage.find("cifar10", array_record) is None


def test_a_split_is_decoded_once(array_record, decodings):
    first = storage.read("mnist", "test", array_record)
    second = storage.read("mnist", "test", array_record)
    assert len(decodings) == 1
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    assert len(list((array_record / "rbjax/decoded").iterdir())) == 1


def test_changed_files_are_decoded_again(array_record, decodings):
    storage.read("mnist", "test", array_record)
    os.utime(array_record / "mnist/3.0.1/mnist-test.array_record-00000-of-00001", ns=(1, 1))
    storage.read("mnist", "test", array_record)
    assert len(decodings) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_copy_is_decoded_again(array_record, decodings, damage):
    first, _ = storage.read("mnist", "test", array_record)
    (path,) = (array_record / "rbjax/decoded").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-50], "flip": content, "empty": b""}[damage])
    again, _ = storage.read("mnist", "test", array_record)
    np.testing.assert_array_equal(again, first)
    assert len(decodings) == 2


def test_a_read_only_folder_is_left_alone(tfrecord, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images, _ = storage.read("mnist", "test", tfrecord)
    assert images.shape == (20, 28, 28, 1)
    assert not (tfrecord / "rbjax").exists()
    assert len(list((tmp_path / "cache/rbjax").glob("*/decoded/*.npz"))) == 1


def test_a_folder_that_is_not_made_yet_has_the_place_it_will_have(tmp_path, monkeypatch):
    data_dir = tmp_path / "new" / "folder"
    before = storage.own_folder(data_dir)
    data_dir.mkdir(parents=True)
    assert before == storage.own_folder(data_dir) == data_dir / "rbjax"
    monkeypatch.chdir(tmp_path)
    assert storage.own_folder(Path("other")) == Path("other/rbjax")


def test_where_nothing_can_be_written_it_is_decoded_each_time(array_record, decodings):
    (array_record / "rbjax").write_text("a file where the folder would be")
    for _ in range(2):
        images, _ = storage.read("mnist", "test", array_record)
        assert images.shape == (20, 28, 28, 1)
    assert len(decodings) == 2


def test_a_bucket_is_not_a_folder():
    with pytest.raises(ValueError, match=r"data_dir = 'gs://bucket/tfds': must be a folder"):
        storage.find("mnist", "gs://bucket/tfds")


def test_a_config_is_prepared_from_a_folder_of_its_files(prepared):
    dataset = load("cifar10_1/v6", "test", data_dir=prepared / "configs")
    expected = np.load(prepared / "mirror/cifar10.1_v6_data.npy")
    order = np.argsort(dataset.index)
    assert sorted(image.tobytes() for image in dataset.images[order]) == sorted(
        image.tobytes() for image in expected
    )
    assert dataset.class_counts.tolist() == [2] * 10
    assert dataset.info.name == "cifar10_1/v6"
    manual = prepared / "configs/downloads/manual"
    assert sorted(path.name for path in manual.iterdir()) == [
        "cifar10.1_v6_data.npy",
        "cifar10.1_v6_labels.npy",
    ]


def test_images_stay_in_their_records(array_record):
    images, labels = storage.read("mnist", "train", array_record)
    lazy, again = storage.open_records("mnist", "train", (28, 28, 1), array_record)
    np.testing.assert_array_equal(again, labels)
    assert not isinstance(lazy, np.ndarray)
    assert lazy.shape == images.shape
    rows = np.array([7, 3, 3])
    np.testing.assert_array_equal(lazy[rows], images[rows])
    np.testing.assert_array_equal(lazy[10:13], images[10:13])
    np.testing.assert_array_equal(lazy[-1], images[-1])
    assert lazy[rows[:0]].shape == (0, 28, 28, 1)
    np.testing.assert_array_equal(np.asarray(lazy), images)


def test_labels_of_records_are_read_once(array_record, monkeypatch):
    _, labels = storage.open_records("mnist", "train", (28, 28, 1), array_record)
    monkeypatch.setattr(storage.Records, "read", None)
    _, again = storage.open_records("mnist", "train", (28, 28, 1), array_record)
    np.testing.assert_array_equal(again, labels)


def test_records_are_made_to_fit(array_record):
    images, _ = storage.open_records("mnist", "train", (14, 28, 3), array_record)
    assert images[np.arange(2)].shape == (2, 14, 28, 3)
    blank = np.full((64, 80), 7, np.uint8)
    file = io.BytesIO()
    Image.fromarray(blank).save(file, "PNG")
    folder = array_record / "mnist/3.0.1"
    assert np.all(storage.Records(folder, "train").image(0, file.getvalue(), (28, 28, 1)) == 7)


def _open_records(name, split, data_dir):
    return storage.open_records(name, split, (28, 28, 1), data_dir)


@pytest.mark.parametrize("reader", [storage.read, _open_records])
def test_a_damaged_array_record_is_one_clear_error(array_record, reader):
    path = array_record / "mnist/3.0.1/mnist-test.array_record-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[content.rindex(b"IEND") - 40] ^= 1  # one bit of the last image
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mnist/3.0.1: test: .* damaged") as caught:
        reader("mnist", "test", array_record)
    assert "\n" not in str(caught.value)
    assert not (array_record / "rbjax").exists()


def test_a_cut_array_record_is_one_clear_error(array_record):
    path = array_record / "mnist/3.0.1/mnist-test.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-70000])
    with pytest.raises(ValueError, match=r"mnist/3.0.1: test: cannot be opened|damaged") as caught:
        storage.read("mnist", "test", array_record)
    assert "\n" not in str(caught.value)


def test_an_image_that_cannot_be_decoded_is_named(array_record):
    records = storage.Records(array_record / "mnist/3.0.1", "train")
    with pytest.raises(ValueError, match=r"3.0.1: train: image 5 cannot be read"):
        records.image(5, b"\x89PNG no image", (28, 28, 1))


def test_records_of_tensorflows_own_making(prepared):
    test = load("droughtwatch", "test", data_dir=prepared / "drought")
    np.testing.assert_array_equal(test.images, np.load(prepared / "bands.npy"))
    assert test.labels.tolist() == [0, 1, 2, 3, 0]


def test_an_image_is_scaled_and_its_middle_kept(array_record):
    wide = np.zeros((448, 896, 3), np.uint8)
    wide[:, 448:] = 255
    wide[:14] = 100  # above what is kept: 448 / 256 * 16 = 28 rows
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    records = storage.Records(array_record / "mnist/3.0.1", "train")
    image = records.image(0, file.getvalue(), (224, 224, 3))
    assert np.all(image[:, :111] == 0)
    assert np.all(image[:, 113:] == 255)


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("dataset_info.json", lambda text: text[:40], r"dataset_info.json: is damaged"),
        ("dataset_info.json", lambda text: "[]", r"dataset_info.json: is damaged \(name is None"),
        ("dataset_info.json", lambda text: "\0", r"dataset_info.json: is damaged"),
        (
            "dataset_info.json",
            lambda text: json.dumps({**json.loads(text), "splits": 3}),
            r"dataset_info.json: is damaged \(splits is 3\)",
        ),
        (
            "dataset_info.json",
            lambda text: text.replace('"20"', '"x"'),
            r"dataset_info.json: is damaged \(shardLengths of test is \['x'\]",
        ),
        ("features.json", lambda text: text[:40], r"features.json or .* is damaged"),
        ("features.json", lambda text: "{}", r"features.json or .* is damaged"),
    ],
)
def test_a_damaged_description_is_one_clear_error(array_record, name, change, fault):
    folder = array_record / "mnist/3.0.1"
    (folder / name).write_text(change((folder / name).read_text()))
    with pytest.raises(ValueError, match=fault) as error:
        storage.read("mnist", "test", array_record)
    assert "\n" not in str(error.value)
