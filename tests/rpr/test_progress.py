"""The progress bar: survivors left and time to go in a terminal, silence elsewhere."""

import io
import sys

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


def test_survivors_are_those_not_fooled_yet():
    """Of the images that are not finished all, of the others those that withstood every draw."""
    seen = []
    scores = score(MIXED, progress=seen.append)
    assert all(s.of - s.done <= s.figures["survivors"] <= s.of for s in seen)
    assert seen[-1].figures["survivors"] == scores.robust.sum() < len(MIXED)
    repeated = score(MIXED, progress=seen.append, scorer=rpr.score_repeatedly, repetitions=3)
    assert seen[-1][1:3] == (3 * len(MIXED), 3 * len(MIXED))
    robust = (repeated.first_failure[:, -1] > 20).sum()
    assert seen[-1].figures["survivors"] == robust
