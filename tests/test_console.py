"""What is printed never fails: not by its letters, nor by where it goes."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rbjax import console

REPOSITORY = Path(__file__).parents[1]


def test_what_an_encoding_lacks_is_escaped(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    with console.steady():
        print("naïve 中文 \udcff", flush=True)
    assert buffer.getvalue() == rb"na\xefve \u4e2d\u6587 \udcff" + b"\n"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="utf-8"))
    buffer.seek(0)
    with console.steady():
        print("naïve 中文")
    assert buffer.getvalue().startswith("naïve 中文\n".encode())


def test_what_a_terminal_obeys_is_escaped(monkeypatch):
    """Colours, titles and bells in names; ends of lines, tabs and the steps of bars are not."""
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, shown := io.StringIO())
        with console.steady():
            print("a\tb\r\x1b[A\x1b[31m\x1b]0;title\x07\x9b2J\x7f", file=getattr(sys, stream))
        assert shown.getvalue() == "a\tb\r\x1b[A" + r"\x1b[31m\x1b]0;title\x07\x9b2J\x7f" + "\n"


def test_a_closed_or_absent_stream_drops_what_is_printed(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        with console.steady():
            print("nobody reads this", flush=True)
            print("nor this", file=sys.stderr)
            assert not sys.stderr.isatty() if stream is None else True


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_ends_early_is_no_failure(unbuffered):
    """`python -m rbjax.main --help | head -1`, whose text is longer than a pipe holds unread."""
    program = "from rbjax.main import main; codes = [main(['rbjax', '--help']) for _ in range(9)]"
    program += "; import sys; sys.exit(max(codes))"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"Runs one job")
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_name_is_one_line():
    assert console.printable("two\nlines\x1b[31m\udcff\u2028") == r"two\nlines\x1b[31m\udcff\u2028"
    for name in ("日本語", "עברית", "a b\xa0c", "👩‍🔬", "plain"):
        assert console.printable(name) == name
