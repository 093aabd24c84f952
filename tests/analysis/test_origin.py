"""What a report says of the command that made it."""

from __future__ import annotations

import sys

import pytest

from rbjax.analysis import origin


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/v/bin/python", "/v/bin/rbjax", "compare", "a b", "c"], "rbjax compare 'a b' c"),
        (["/usr/bin/python3.13", "-m", "rbjax.compare", "a"], "python3.13 -m rbjax.compare a"),
        (["python", "job/mine.py", "--x=1"], "python job/mine.py --x=1"),
        (["python", "-c", "x = 1"], "python -c 'x = 1'"),
        (["/usr/bin/python"], "python"),
    ],
)
def test_a_command_is_said_as_it_was_typed(
    argv: list[str], typed: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert origin.command() == typed
