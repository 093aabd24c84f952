"""The code on documentation pages runs, as a reader would run it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import numpy as np
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
    assert counts["file"] == 11
    assert counts["python"] == 2
    assert counts["sh"] == 2
    printed = capsys.readouterr().out
    for name in ("mylab:stripes", "mylab:TinyNet", "mylab:noisy", "sigma=0.05", "mylab:slowing"):
        assert name in printed
    for name in ("mylab:reversed_counts", "power=1", "mylab:rising", "least=0.75"):
        assert name in printed
    whole = epochs(reader_folder / "runs/mylab")
    written = (reader_folder / "runs/mylab/spreadsheet.tsv").read_text().splitlines()
    assert [float(line.split("\t")[1]) for line in written] == [loss for _, loss, *_ in whole]
    shutil.copytree("runs/mylab", "runs/stopped")
    shutil.rmtree("runs/stopped/checkpoints/16")
    command = "--config=mylab_config.py --workdir=runs/stopped --config.model.width=6"
    assert main.main(["rbjax.main", *command.split()]) == 0
    assert "training from step 12 of 16" in capsys.readouterr().out
    assert epochs(reader_folder / "runs/stopped") == whole
    again = (reader_folder / "runs/stopped/spreadsheet.tsv").read_text().splitlines()
    assert again == written


def test_any_model(reader_folder, capsys):
    """Models of other libraries, attacked while they train and without gradients."""
    assert run_page(ROOT / "docs" / "any_model.md", reader_folder)["python"] == 2
    printed = capsys.readouterr().out
    assert printed.count("pgd: linf, epsilon 0.1, 5 steps") == 2
    assert "square" in printed
    assert "gaussian_noise" in printed


def epochs(workdir: Path) -> list[tuple[float, ...]]:
    """Returns what each epoch of a run came to, its speed aside."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["step"], r["train/loss"], r["train/accuracy"], r["learning_rate"]) for r in records]


def test_readmes_calls_run(tmp_path, monkeypatch):
    """README's library block, with a linear model in place of the reader's."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [block["code"] for block in BLOCK.finditer(text) if block["language"] == "python"]
    for old, new in (("num_steps=20", "num_steps=2"), ("max_steps=250", "max_steps=4")):
        assert old in block
        block = block.replace(old, new)
    block = block.replace("attacks.square(**ball)", "attacks.square(**ball, num_queries=9)")
    block = block.replace('folder="audit"', 'folder="audit", entries={"pgd": entries["pgd"]}')
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(48, 3)).astype(np.float32)
    images, labels = generator.random((12, 4, 4, 3), np.float32), np.arange(12) % 3

    def apply(weights, images):
        return images.reshape(len(images), -1) @ weights

    names = {"model": types.SimpleNamespace(apply=apply), "variables": weights}
    names |= {"images": images, "labels": labels}
    exec(compile(block, "README.md", "exec"), names)
    assert names["scores"].first_failure.shape == (12,)
    assert (tmp_path / "audit/report.html").exists()


def test_links_lead_somewhere():
    """Those of README and of the pages, to files and to headings."""
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    pages += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "experiments").rglob("*.md"))
    for page in pages:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), flags=re.M)
                slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
                assert anchor in slugs, f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_in_the_contents():
    listed = (ROOT / "docs/index.md").read_text(encoding="utf-8").split()
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages <= set(listed)
