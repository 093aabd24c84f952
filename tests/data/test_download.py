import hashlib
import http.server
import ssl
import threading
import urllib.error
import urllib.request

import pytest

from rbjax.data.description import File
from rbjax.data.download import PART, DatasetNotFoundError, fetch

CONTENT = bytes(range(256)) * 40
FILE = File("data.bin", "http://nowhere.invalid/data.bin", len(CONTENT))
FILE = FILE._replace(sha256=hashlib.sha256(CONTENT).hexdigest())


class _Server(http.server.ThreadingHTTPServer):
    """What it sends, and how, is the test's to set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Host)
        self.asked: list[tuple[str, str | None]] = []
        self.content = CONTENT
        self.ranges, self.without_length = True, False
        self.begin: int | None = None
        self.most: int | None = None
        self.stall: threading.Event | None = None
        self.url = f"http://127.0.0.1:{self.server_port}/"


class _Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        assert isinstance(server, _Server)
        asked = self.headers["Range"]
        server.asked.append((self.path, asked))
        if self.path.endswith("missing.bin"):
            return self.send_error(404)
        body = server.content
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            first = start if server.begin is None else server.begin
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if not server.without_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.most])
        self.wfile.flush()
        if server.stall:
            server.stall.wait(5)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_mirrors_folder_or_file(host, tmp_path):
    assert fetch(FILE, tmp_path / "a", source=host.url).read_bytes() == CONTENT
    assert fetch(FILE, tmp_path / "b", source=f"{host.url}x?raw=true").read_bytes() == CONTENT
    assert [path for path, _ in host.asked] == ["/data.bin", "/x?raw=true"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["data.bin"]
    fetch(FILE, tmp_path / "a", source=host.url)
    assert len(host.asked) == 2  # what is there is not asked for again


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_transfer_is_resumed(host, tmp_path, ranges):
    host.most, host.ranges = 4000, ranges
    with pytest.raises(DatasetNotFoundError) as caught:
        fetch(FILE, tmp_path, source=host.url)
    message = str(caught.value)
    assert "stopped after 4,000 bytes" in message
    assert "rerun to resume from there" in message
    assert "--from" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == [f"data.bin{PART}"]
    host.most = None
    assert fetch(FILE, tmp_path, source=host.url).read_bytes() == CONTENT
    assert host.asked[-1] == ("/data.bin", "bytes=4000-")
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


def test_what_is_all_there_already_is_not_sent_again(host, tmp_path):
    (tmp_path / f"data.bin{PART}").write_bytes(CONTENT)
    assert fetch(FILE, tmp_path, source=host.url).read_bytes() == CONTENT
    assert [asked for _, asked in host.asked] == [f"bytes={len(CONTENT)}-"]
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


def test_more_than_the_host_has_is_another_file(host, tmp_path):
    (tmp_path / f"data.bin{PART}").write_bytes(CONTENT + b"more")
    assert fetch(FILE, tmp_path, source=host.url).read_bytes() == CONTENT
    assert [asked for _, asked in host.asked] == [f"bytes={len(CONTENT) + 4}-", None]


def test_another_file_is_refused_with_both_checksums(host, tmp_path):
    host.content = CONTENT[:-1] + b"x"
    with pytest.raises(ValueError, match="its SHA-256 is") as caught:
        fetch(FILE, tmp_path, source=host.url)
    message = str(caught.value)
    assert f"{host.url}data.bin" in message
    assert hashlib.sha256(host.content).hexdigest() in message
    assert FILE.sha256 is not None
    assert FILE.sha256 in message
    assert list(tmp_path.iterdir()) == []


def test_another_size_is_refused_where_no_checksum_is_known(host, tmp_path):
    host.content = CONTENT + b"x"
    with pytest.raises(ValueError, match=r"has 10,241 bytes; data.bin has 10,240"):
        fetch(FILE._replace(sha256=None), tmp_path, source=host.url)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_sends_more_than_was_promised_is_left(host, tmp_path, monkeypatch):
    """Without a length, as chunks have none; what is read at once is all that is taken."""
    monkeypatch.setattr("rbjax.data.download._BLOCK", 1000)
    host.content, host.without_length = CONTENT * 50, True
    with pytest.raises(ValueError, match=r"sends more than the 10,240 bytes of data.bin"):
        fetch(FILE, tmp_path, source=host.url)
    assert list(tmp_path.iterdir()) == []


def test_a_stalled_host_says_how_to_go_on(host, tmp_path):
    host.most, host.stall = 4000, threading.Event()
    with pytest.raises(DatasetNotFoundError, match=r"stopped after \d,?\d* bytes \(timed out\)"):
        fetch(FILE, tmp_path, source=host.url, timeout=0.3)
    host.stall.set()


def test_another_part_than_requested_is_refused(host, tmp_path):
    (tmp_path / f"data.bin{PART}").write_bytes(CONTENT[:100])
    host.begin = 50
    with pytest.raises(DatasetNotFoundError, match="the host sent another part than requested"):
        fetch(FILE, tmp_path, source=host.url)


def test_two_at_once_download_one_file_once(host, tmp_path):
    host.stall = threading.Event()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(FILE, tmp_path, source=host.url)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while not host.asked:
        threads[0].join(0.01)
    host.stall.set()
    for thread in threads:
        thread.join()
    assert len(host.asked) == 1
    assert [path.read_bytes() for path in found] == [CONTENT] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{url}missing.bin", r"the host answers 404 .* with --from$"),
        ("http://127.0.0.1:9/data.bin", "stopped after 0 bytes"),
        ("ftp://host/data.bin", "must be an http or https URL, or a path"),
        ("/nowhere/data.bin", "no such file; data.bin is needed"),
    ],
)
def test_what_cannot_be_had(host, tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        fetch(FILE, tmp_path, source=source.format(url=host.url))
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_the_folder_that_holds_it(tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    for number, source in enumerate((tmp_path, tmp_path / "data.bin")):
        assert fetch(FILE, tmp_path / str(number), source=source).read_bytes() == CONTENT
    (tmp_path / "data.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match="its SHA-256 is"):
        fetch(FILE, tmp_path / "2", source=tmp_path)
    assert list((tmp_path / "2").iterdir()) == []


def test_other_authorities_are_asked_about_an_unknown_certificate(monkeypatch, tmp_path):
    """A Python of its own on macOS knows none."""
    contexts = []

    def urlopen(request, timeout, context=None):
        contexts.append(context)
        raise urllib.error.URLError(ssl.SSLCertVerificationError("unknown issuer"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DatasetNotFoundError, match="stopped after 0 bytes"):
        fetch(FILE, tmp_path, source="https://host/data.bin")
    assert contexts[0] is None
    assert isinstance(contexts[1], ssl.SSLContext)
