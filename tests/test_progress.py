"""How far a long call is: a bar in a terminal and in a notebook, lines in a log."""

import inspect
import io
import sys
import time
import types
from typing import Any

import pytest

import rbjax
from rbjax import attacks, corruptions, rpr
from rbjax import progress as module
from rbjax.progress import Progress, progress_bar, teller


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still but for what a test adds to it."""
    now = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    return now


def test_every_call_that_goes_through_a_dataset_can_show_it():
    calls = {
        f"{package.__name__}.{name}": inspect.signature(getattr(package, name)).parameters
        for package in (attacks, corruptions, rpr, rpr.closed_form, rpr.splitting, rbjax)
        for name in dir(package)
        if inspect.isfunction(getattr(package, name))
    }
    in_blocks = {"batch_size", "block_size"}
    through = {name: p for name, p in calls.items() if "images" in p and in_blocks & set(p)}
    assert len(through) >= 17
    assert [name for name, parameters in through.items() if "progress" not in parameters] == []


def test_a_log_gets_a_line_every_ten_seconds(clock, capsys):
    with progress_bar("RPR of these") as tell:
        tell(Progress("pgd", 0, 2000))
        clock.seconds += 4
        tell(Progress("pgd", 100, 2000))
        clock.seconds += 6
        tell(Progress("pgd", 400, 2000, {"robust": 1234, "loss": 0.25}))
        clock.seconds += 9.9
        tell(Progress("pgd", 800, 2000))
        clock.seconds += 10.1
        tell(Progress("pgd", 900, 2000))
    assert capsys.readouterr().err.splitlines() == [
        "RPR of these: pgd: 400 of 2,000 (20%), 40 a second, 00:40 left, robust=1,234, loss=0.25",
        "RPR of these: pgd: 900 of 2,000 (45%), 30 a second, 00:36 left",
    ]


@pytest.mark.parametrize(
    ("unit", "states", "line"),
    [
        ("", [Progress("", 2, 8), Progress("", 4, 8)], "4 of 8 (50%), 5.0 s each, 00:20 left"),
        ("", [Progress("", 0, 0), Progress("", 25, 0)], "25, 2.5 a second"),
        (
            "B",
            [Progress("", 0, 4_000_000), Progress("", 1_500_000, 4_000_000)],
            "1.50MB of 4.00MB (38%), 150kB a second, 00:16 left",
        ),
    ],
    ids=["resumed and slow", "nobody knows of how many", "bytes"],
)
def test_lines(clock, capsys, unit, states, line):
    """The rate is of what was done meanwhile: a resumed job did not do the rest just now."""
    with progress_bar("it", unit=unit) as tell:
        for number, state in enumerate(states):
            clock.seconds += 10 * number
            tell(state)
    assert capsys.readouterr().err == f"it: {line}\n"


def test_what_is_over_in_ten_seconds_says_nothing_in_a_log(clock, capsys):
    tell: Any = teller(True)
    for done in range(10):
        clock.seconds += 0.9
        tell(Progress("", done, 9))
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_one_bar_a_task(monkeypatch):
    """The parts of an attack are one bar; what is done leaves nothing behind."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    tell: Any = teller(True, "these")
    tell(Progress("pgd", 0, 3))
    tell(Progress("pgd", 3, 3, {"robust": 1234}))
    tell(Progress("autoattack: apgd-ce", 1, 4))
    tell(Progress("autoattack: fab-t", 2, 4))
    text = shown.getvalue()
    assert "these: pgd: 100%" in text
    assert "3/3 [00:" in text
    assert "robust=1,234" in text
    assert "these: autoattack: apgd-ce:  25%" in text
    assert text.count("\n") == 0
    finished = text[text.index("3/3") :]
    assert "\r" + " " * 20 in finished[: finished.index("autoattack")]


def test_a_notebook_sees_one_output_drawn_over(clock, monkeypatch):
    drawn, num_outputs = [], [0]

    class Output:
        def update(self, content, raw):
            drawn.append(content["text/plain"])

    def display(content, raw, display_id):
        num_outputs[0] += 1
        drawn.append(content["text/plain"])
        return Output()

    kernel = types.SimpleNamespace(kernel=object())
    ipython = types.SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    tell: Any = teller(True)
    for done in range(4):
        clock.seconds += 0.1
        tell(Progress("pgd", done, 3))
    tell(Progress("fgsm", 1, 2))
    shown = [text.split("|")[0] for text in drawn]
    assert shown == ["pgd:   0%", "pgd: 100%", "", "fgsm:  50%"]
    assert num_outputs == [1]
    kernel.__dict__.clear()  # IPython in a terminal or a script has none
    assert not module._in_a_notebook()


def test_of_several_processes_the_first_shows(clock, monkeypatch, capsys):
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    for index, num_lines in ((1, 0), (0, 1)):
        monkeypatch.setattr("jax.process_index", lambda index=index: index)
        tell: Any = teller(True)
        clock.seconds += 11
        tell(Progress("pgd", 1, 3))
        assert capsys.readouterr().err.count("\n") == num_lines


def test_what_is_no_option():
    wrong: Any = 3
    assert teller(None) is None
    assert teller(False) is None
    assert teller(print) is print
    with pytest.raises(ValueError, match=r"progress is 3; it must be True, False, or a function"):
        teller(wrong)
