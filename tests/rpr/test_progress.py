"""The progress bar: survivors left and time to go in a terminal, silence elsewhere."""

import io
import sys

import pytest

from rbjax import rpr
from tests.rpr.known import MIXED, score


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_survivors_and_time(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with rpr.progress_bar("RPR of these") as progress:
        scores = score(MIXED, progress=progress)
        text = shown.getvalue()
    assert "RPR of these: " in text
    assert "203/203 [00:" in text
    assert f"survivors={scores.robust.sum()}" in text
    assert f"passes={scores.forward_passes_run:,}" in text


def test_a_file_sees_nothing(capsys):
    with rpr.progress_bar("RPR of these") as progress:
        score(MIXED, progress=progress)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("scored", "robust", "survivors"), [(0, 0, 10), (4, 1, 7), (10, 3, 3)])
def test_survivors_are_those_not_fooled_yet(scored, robust, survivors):
    assert rpr.Progress(10, scored, robust, 0).num_survivors == survivors
