import hashlib
import http.server
import socket
import sys
import threading
import types
from importlib import machinery

import pytest

from rbjax.data import DatasetNotFoundError, load, prepare, storage
from rbjax.data.__main__ import main
from rbjax.data.description import File


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda url: False)


@pytest.fixture
def online(monkeypatch):
    """Every host answers; the files that were fetched."""
    fetched = []
    monkeypatch.setattr(prepare, "reachable", lambda url: True)
    monkeypatch.setattr(prepare, "fetch", lambda file, folder: fetched.append((file.name, folder)))
    return fetched


@pytest.fixture
def fake_tensorflow(monkeypatch):
    """TensorFlow takes seconds to import; it only has to hide the GPU here."""
    hidden = []
    config = types.SimpleNamespace(set_visible_devices=lambda *devices: hidden.append(devices))
    fake = types.SimpleNamespace(config=config, __spec__=machinery.ModuleSpec("tensorflow", None))
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    return hidden


@pytest.fixture
def fake_builder(monkeypatch, fake_tensorflow):
    """A builder that cannot download, and what it was asked for."""
    import tensorflow_datasets as tfds

    asked = {}

    def builder(name, **keywords):
        def download_and_prepare():
            asked["hidden"] = list(fake_tensorflow)
            raise OSError("checksum is wrong\nand a page of advice")

        asked.update(keywords, name=name)
        return types.SimpleNamespace(download_and_prepare=download_and_prepare)

    monkeypatch.setattr(tfds, "builder", builder)
    return asked


def test_a_missing_dataset_without_a_network_is_one_clear_line(offline, tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        load("svhn_cropped", "test", data_dir=tmp_path)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in message
    assert f"svhn_cropped is not in {tmp_path}" in message
    assert "ufldl.stanford.edu cannot be reached" in message
    assert "python -m rbjax.data svhn_cropped --prepare" in message
    assert "data_dir" in message
    assert list(tmp_path.iterdir()) == []


def test_files_placed_by_hand_need_no_network(offline, fake_builder, tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "cifar-10-binary.tar.gz").touch()
    with pytest.raises(DatasetNotFoundError, match="TFDS could not prepare it"):
        load("cifar10", "test", data_dir=tmp_path)


def test_tfds_is_asked_for_array_record_with_the_gpu_hidden(online, fake_builder, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"could not prepare it: checksum is wrong$"):
        prepare.prepare("cifar10", tmp_path)
    assert fake_builder["name"] == "cifar10"
    assert fake_builder["data_dir"] == tmp_path
    assert fake_builder["file_format"] == "array_record"
    assert fake_builder["hidden"] == [([], "GPU")]
    assert online == [("cifar-10-binary.tar.gz", tmp_path / "downloads/manual")]


def test_tensorflow_may_be_missing(online, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(
        DatasetNotFoundError, match=r"not installed: pip install 'rbjax\[prepare\]'"
    ):
        prepare.prepare("cifar10", tmp_path)


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(("status", "expected"), [(200, True), (404, True), (503, False)])
def test_a_host_that_answers_is_reachable(status, expected):
    with http.server.HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{status}"
        assert prepare.reachable(url, patience=30) is expected
        thread.join()


def test_a_host_that_refuses_or_keeps_silent_is_not():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert not prepare.reachable(url, patience=0.2)
    assert not prepare.reachable(url, patience=30)


def test_where_tfds_keeps_its_datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert storage.default_data_dir() == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert storage.default_data_dir().name == "tensorflow_datasets"


@pytest.fixture
def files():
    """Two files that a mirror has, and what they hold."""
    contents = {"images.npy": b"images" * 50, "labels.npy": b"labels" * 10}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return contents, tuple(
        File(name, f"http://127.0.0.1:9/{name}", len(content), digests[name])
        for name, content in contents.items()
    )


@pytest.fixture
def mirror(files, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in files[0].items():
        (folder / name).write_bytes(content)
    return folder


def test_all_files_come_from_a_folder(files, mirror, tmp_path):
    prepare.take("some", files[1], tmp_path / "to", mirror)
    for name, content in files[0].items():
        assert (tmp_path / "to" / name).read_bytes() == content


def test_one_of_several_files_is_known_by_its_name(files, mirror, tmp_path):
    prepare.take("some", files[1], tmp_path / "to", mirror / "labels.npy")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["labels.npy"]
    with pytest.raises(ValueError, match=r"other.npy': is none of the files of some, images.npy, "):
        prepare.take("some", files[1], tmp_path / "to", mirror / "other.npy")
    (mirror / "renamed").write_bytes(files[0]["labels.npy"])
    prepare.take("one", files[1][1:], tmp_path / "two", mirror / "renamed")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["labels.npy"]


def test_a_folder_without_a_file_names_it(files, mirror, tmp_path):
    (mirror / "labels.npy").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"mirror/labels.npy': no such file"):
        prepare.take("some", files[1], tmp_path / "to", mirror)


def test_the_environment_names_a_mirror_of_all_datasets(files, mirror, tmp_path, monkeypatch):
    prepare.take("some", files[1], tmp_path / "to")
    assert not (tmp_path / "to").exists()
    monkeypatch.setenv(prepare.MIRROR, str(mirror))
    (mirror / "labels.npy").unlink()
    prepare.take("some", files[1], tmp_path / "to")  # the other one is left to its own host
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["images.npy"]
    monkeypatch.setenv(prepare.MIRROR, "http://127.0.0.1:9/data")
    with pytest.raises(DatasetNotFoundError, match=r"http://127.0.0.1:9/data/labels.npy: stopped"):
        prepare.take("some", files[1], tmp_path / "to")


def test_a_wrong_archive_is_refused_before_tfds_sees_it(offline, fake_builder, tmp_path):
    wrong = tmp_path / "cifar-10-binary.tar.gz"
    wrong.write_bytes(b"an error page")
    with pytest.raises(ValueError, match=r"has 13 bytes; cifar-10-binary.tar.gz has 170,052,171"):
        load("cifar10", "test", data_dir=tmp_path / "to", source=wrong)
    assert list((tmp_path / "to").rglob("*.gz")) == []
    assert fake_builder == {}


def test_imagenet_says_what_a_person_has_to_do(online, fake_builder, tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        load("imagenet2012_corrupted/fog_3", "test", data_dir=tmp_path)
    message = str(caught.value)
    assert "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar" in message
    assert "register at https://image-net.org/download-images" in message
    manual = tmp_path / "downloads/manual"
    manual.mkdir(parents=True)
    for split in ("train", "val"):
        (manual / f"ILSVRC2012_img_{split}.tar").touch()
    with pytest.raises(DatasetNotFoundError, match="TFDS could not prepare it"):
        load("imagenet2012_corrupted/fog_3", "test", data_dir=tmp_path)
    assert fake_builder["name"] == "imagenet2012_corrupted/fog_3"


def test_the_files_of_a_config_are_its_own():
    names = [file.name for file in prepare.published_files("cifar10_1/v6")]
    assert names == ["cifar10.1_v6_data.npy", "cifar10.1_v6_labels.npy"]
    (archive,) = prepare.published_files("cifar10_corrupted/fog_3")
    assert (archive.name, archive.num_bytes) == ("CIFAR-10-C.tar", 2918471680)
    assert prepare.published_files("digits") == ()
    names = [file.name for file in prepare.published_files("imagenet_lt")]
    assert names[:2] == ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]
    assert "ImageNet_LT_train.txt" in names


def test_the_command_takes_a_path(mirror, capsys, tmp_path):
    (mirror / "tiny-imagenet-200.zip").write_bytes(b"no archive")
    arguments = ["--prepare", f"--from={mirror}", f"--data_dir={tmp_path / 'to'}"]
    assert main(["tiny_imagenet", *arguments]) == 2
    error = capsys.readouterr().err
    assert "tiny-imagenet-200.zip: not a zip archive, or a damaged one" in error
    assert error.count("\n") == 1
