"""What people with models of other libraries do, in the fewest lines; each script is a person's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OURS = (
    "# ---------------------------------------------------------------------- what rbjax is for\n"
)
"""A script's lines from here on are those that rbjax costs."""

pytestmark = pytest.mark.full_size


def run(name: str, most_lines: int) -> str:
    """Returns what a script prints; it may need so many lines of rbjax's."""
    own = (HERE / name).read_text(encoding="utf-8").partition(OURS)[2]
    assert 0 < len([line for line in own.splitlines() if line.strip()]) <= most_lines
    command = [sys.executable, "-W", "error::FutureWarning", HERE / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_a_student(library):
    if library == "equinox":
        pytest.importorskip("equinox")
    printed = run(f"student_{library}.py", 13)
    assert printed.count("linf, epsilon 0.1") == 3
    assert printed.count("up to 50 draws") == 3


def test_a_data_scientist():
    printed = run("data_scientist.py", 7)
    assert "up to 100 draws" in printed
    assert "gaussian_noise" in printed
