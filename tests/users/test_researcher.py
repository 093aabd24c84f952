"""A researcher's method beside PGD training, over seeds, image by image: two commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.full_size

HERE = Path(__file__).parent
COMMANDS = (HERE / "research.sh").read_text(encoding="utf-8")


def test_a_method_of_ones_own_is_swept_and_compared(environment, tmp_path):
    shutil.copy(HERE / "research.py", tmp_path / "mylab.py")
    done = subprocess.run(
        ["bash", "-ec", COMMANDS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for method in ("pgd", "mylab:agreeing"):  # a row of each under every attack, of two seeds
        rows = [line.split() for line in done.stdout.splitlines() if line.startswith(f"{method} ")]
        assert [row[1] for row in rows][:4] == ["clean", "fgsm", "pgd20", "universal"]
        assert all("2" in row for row in rows)
    assert "pgd: linf, epsilon 0.1, 20 steps" in done.stdout
    assert "is better (p = " in done.stdout
    assert (tmp_path / "comparison.csv").is_file()
    assert not any((tmp_path / "grid").glob("failures/*"))
