import http.server
import socket
import sys
import threading
import types

import pytest

from rbjax.data import DatasetNotFoundError, load, prepare, storage


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda url: False)


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(prepare, "reachable", lambda url: True)


@pytest.fixture
def fake_tensorflow(monkeypatch):
    """TensorFlow takes seconds to import; it only has to hide the GPU here."""
    hidden = []
    config = types.SimpleNamespace(set_visible_devices=lambda *devices: hidden.append(devices))
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
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


def test_tensorflow_may_be_missing(online, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(DatasetNotFoundError, match="needs TensorFlow to prepare it: pip install"):
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
