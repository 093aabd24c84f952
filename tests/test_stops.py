"""Ctrl-C and SIGTERM: what a job, a whole process and a forked one make of them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rbjax import stops
from rbjax.errors import NotFiniteError, StoppedError, exit_code


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook


@pytest.fixture(autouse=True)
def _as_before():
    before = handlers()
    yield
    assert handlers() == before
    assert not stops.requested()


def said(capsys):
    """What the listening thread said, which may take a moment."""
    for _ in range(200):
        if text := capsys.readouterr().err:
            return text
        time.sleep(0.01)
    return ""


def stopped(body):
    with pytest.raises(StoppedError, match="the same command goes on"), stops.heeded():
        body()


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_stop_is_said_at_once_and_unwinds_what_no_except_holds(capsys, number, name):
    lines = []

    def body():
        try:
            send(number)
        except Exception:
            lines.append("held")
        finally:
            lines.append(said(capsys))
        lines.append("not unwound")

    stopped(body)
    (line,) = lines
    assert line.startswith(f"rbjax: {name}: stopping; the same command goes on")
    assert line.count("\n") == 1


def test_what_has_to_save_comes_to_its_end_and_the_stop_is_not_forgotten():
    made = []

    def body():
        with stops.deferred():
            assert not stops.requested()
            send()
            assert stops.requested()
            with stops.heeded():  # a job inside a job
                made.append("saved")
            with contextlib.suppress(stops.Stop), stops.at_once():
                made.append("not unwound")
            made.append("the end")
        made.append("after it")

    stopped(body)
    assert made == ["saved", "the end"]


def test_a_stop_inside_a_part_that_may_be_unwound_is_caught_there():
    made = []

    def body():
        with stops.deferred():
            with contextlib.suppress(stops.Stop), stops.at_once():
                send()
                made.append("not unwound")
            made.append("saved")

    stopped(body)
    assert made == ["saved"]


def test_a_stop_that_python_drops_in_a_finaliser_is_raised_again():
    called = []

    class Thing:
        def __del__(self):
            called.append(1)
            send()

    def body():
        Thing()
        time.sleep(5)
        called.append("not unwound")

    stopped(body)
    assert called == [1]


def test_a_stop_that_a_library_takes_for_its_own_is_remembered():
    def body():
        with contextlib.suppress(BaseException):
            send()

    stopped(body)


def test_without_a_stop_and_in_other_threads_nothing_is_different():
    with stops.heeded(), stops.deferred(), stops.at_once():
        stops.check()
    found = []

    def work():
        with stops.heeded(), stops.deferred():
            found.append(handlers())

    before = handlers()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_signal_that_is_ignored_stays_so():
    """As `nohup` and a shell's background jobs have it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stops.heeded():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_exit_codes():
    assert exit_code(StoppedError()) == 75
    assert exit_code(NotFiniteError()) == 1
    assert exit_code(ValueError()) == 2
    assert exit_code(RuntimeError()) is None


PROGRAM = """
import os, signal, time
from rbjax import stops
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with stops.heeded():
    if (child := os.fork()) == 0:
        time.sleep(60)  # as a reader does, whom its owner ends by a signal
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    with stops.deferred():
        print("begun", flush=True)
        time.sleep(60)
"""


def test_a_forked_process_ends_unheard_and_a_second_ctrl_c_ends_at_once():
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("rbjax: Ctrl-C: stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()
