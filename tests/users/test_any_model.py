"""What people with models of other libraries do, in the fewest lines; each script is a person's."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OURS = (
    "# ---------------------------------------------------------------------- what rbjax is for\n"
)
"""A script's lines from here on are those that rbjax costs."""

pytestmark = pytest.mark.full_size


def run(name: str, most_lines: int, environment: dict[str, str]) -> str:
    """Returns what a script prints; it may need so many lines of rbjax's."""
    own = (HERE / name).read_text(encoding="utf-8").partition(OURS)[2]
    assert 0 < len([line for line in own.splitlines() if line.strip()]) <= most_lines
    command = ["python", "-W", "error::FutureWarning", str(HERE / name)]
    done = subprocess.run(
        ["bash", "-c", shlex.join(command)],  # whose PATH is the environment's
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_a_student(library, environment):
    if library == "equinox":
        pytest.importorskip("equinox")
    printed = run(f"student_{library}.py", 13, environment)
    assert printed.count("linf, epsilon 0.1") == 3
    assert printed.count("up to 50 draws") == 3


def test_a_data_scientist(environment):
    printed = run("data_scientist.py", 7, environment)
    assert "up to 100 draws" in printed
    assert "gaussian_noise" in printed
