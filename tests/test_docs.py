"""The code on documentation pages runs, as a reader would run it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from rbjax import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"^```(?P<language>python|sh)(?: file=(?P<file>\S+))?\n(?P<code>.*?)^```$", re.M | re.S
)


def run_page(page: Path, folder: Path) -> dict[str, int]:
    """Runs a page's blocks in their order and returns how many there were of each kind."""
    counts, names = {"file": 0, "python": 0, "sh": 0}, {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = block["code"]
        if block["file"]:
            with (folder / block["file"]).open("a", encoding="utf-8") as file:
                file.write(code)
            counts["file"] += 1
        elif block["language"] == "python":
            exec(compile(code, f"{page.name}: {code.splitlines()[0]}", "exec"), names)
            counts["python"] += 1
        else:
            for line in code.replace("\\\n", " ").splitlines():
                python, module, name, *arguments = shlex.split(line, comments=True)
                assert (python, module, name) == ("python", "-m", "rbjax.main")
                assert main.main([name, *arguments]) == 0, line
                counts["sh"] += 1
    return counts


@pytest.fixture
def reader_folder(tmp_path, monkeypatch):
    """A folder with rbjax's configs beside it, from which modules can be imported."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mylab", None)


def test_adding(reader_folder, capsys):
    """One of each kind, written outside: checked, trained with, evaluated, called; and resumed."""
    counts = run_page(ROOT / "docs" / "adding.md", reader_folder)
    assert counts["file"] == 10
    assert counts["python"] == 2
    assert counts["sh"] == 2
    printed = capsys.readouterr().out
    for name in ("mylab:stripes", "mylab:TinyNet", "mylab:noisy", "sigma=0.05", "mylab:slowing"):
        assert name in printed
    for name in ("mylab:reversed_counts", "power=1", "mylab:rising", "least=0.75"):
        assert name in printed
    whole = epochs(reader_folder / "runs/mylab")
    shutil.copytree("runs/mylab", "runs/stopped")
    shutil.rmtree("runs/stopped/checkpoints/16")
    command = "--config=mylab_config.py --workdir=runs/stopped --config.model.width=6"
    assert main.main(["rbjax.main", *command.split()]) == 0
    assert "training from step 12 of 16" in capsys.readouterr().out
    assert epochs(reader_folder / "runs/stopped") == whole


def epochs(workdir: Path) -> list[tuple[float, ...]]:
    """Returns what each epoch of a run came to, its speed aside."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["step"], r["train/loss"], r["train/accuracy"], r["learning_rate"]) for r in records]
