"""What scoring tells of its progress."""

from rbjax import rpr
from tests.rpr.known import MIXED, score


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


def test_the_bar_names_survivors_and_passes(capsys, monkeypatch):
    monkeypatch.setattr("rbjax.progress.SECONDS_BETWEEN_LINES", 0.0)
    scores = score(MIXED, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("RPR: 203 of 203 (100%), ")
    assert f"survivors={scores.robust.sum()}, passes={scores.forward_passes_run:,}" in last
