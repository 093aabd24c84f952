"""The code on documentation pages runs, as a reader would run it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import rbjax
from rbjax import __main__ as console
from rbjax import attacks, command_line, main

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


SMALLER = {
    "README": {
        "num_steps=20": "num_steps=2",
        "max_steps=250": "max_steps=4",
        "attacks.square(**ball)": "attacks.square(**ball, num_queries=9)",
        'folder="audit"': 'folder="audit", entries={"pgd": entries["pgd"]}',
    },
    "attacks": {"num_steps=40, num_restarts=5": "num_steps=4, num_restarts=2"},
    "corruptions": {'profile="cifar"\n': 'profile="cifar", severities={"fog": range(1, 6)}\n'},
    "results": {'"gallery.png", profile="cifar"': '"gallery.png", rows={"fog": FOG}'},
    "rpr": {"max_steps=250": "max_steps=4", "num_classes=10": "num_classes=3", "1500": "1"},
    "your_model": {"num_steps=10": "num_steps=2", 'folder="audit"': 'folder="audit", entries={}'},
}
"""What a page calls, and what is called in its place: the same, at a size that takes seconds."""


@pytest.fixture
def reader(tmp_path, monkeypatch) -> dict[str, Any]:
    """What pages take as the reader's: a linear model of 3 classes, 12 images, and a few names."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(192, 3)).astype(np.float32)
    images, labels = generator.random((12, 8, 8, 3), np.float32), np.arange(12) % 3

    def apply(weights, images):
        return images.reshape(len(images), -1) @ weights

    return {
        **{"jax": jax, "np": np, "rbjax": rbjax, "key": jax.random.key(0)},
        **{"model": types.SimpleNamespace(apply=apply), "variables": weights},
        **{"images": images, "labels": labels, "x": images, "y": labels, "image": images[0]},
        **{"logits_fn": jax.tree_util.Partial(apply, weights), "names": ["a", "b", "c"]},
        **{"predictions": labels, "FOG": rbjax.perturbations.fog()},
    }


def measured(reader: dict[str, Any]) -> dict[str, Any]:
    """Returns what the page of results has measured: radii, numbers of steps, a corruption."""
    given = [reader[name] for name in ("logits_fn", "key", "images", "labels")]
    radii = {f"pgd {n}/255": attacks.pgd(epsilon=n / 255, num_steps=1) for n in (2, 4)}
    steps = {f"pgd {n}": attacks.pgd(epsilon=0.1, num_steps=n) for n in (1, 2)}
    severities = {"contrast": range(1, 6)}
    return {
        "result": attacks.run_attacks(*given, attacks={**radii, **steps}, progress=None),
        "corrupted": rbjax.corruptions.run_corruptions(
            *given, profile="cifar", severities=severities
        ),
    }


def of_other_libraries() -> dict[str, Any]:
    """Returns what the page of RPR has from scikit-learn and PyTorch, as small as it calls them."""
    scored = {"robust": np.ones(12, bool), "labels": np.arange(12) % 3}
    Path("runs/train").mkdir(parents=True)
    np.savez("runs/train/rpr.npz", example_ids=np.arange(12), **scored)

    class Tensor(np.ndarray):
        def numpy(self):
            return np.asarray(self)

    return {
        "torch": types.SimpleNamespace(
            no_grad=lambda: lambda call: call, from_numpy=lambda x: x.view(Tensor)
        ),
        "module": lambda x: x.reshape(len(x), -1)[:, :3],
        "estimator": types.SimpleNamespace(predict=lambda x: (8 * x[:, 0]).astype(int) % 3),
    }


@pytest.mark.parametrize("name", SMALLER)
def test_calls_of_a_page_run(reader, name):
    """All its blocks of Python in their order."""
    page = ROOT / ("README.md" if name == "README" else f"docs/{name}.md")
    blocks = BLOCK.finditer(page.read_text(encoding="utf-8"))
    code = "\n".join(block["code"] for block in blocks if block["language"] == "python")
    for old, new in SMALLER[name].items():
        assert old in code, f"{page.name}: {old}"
        code = code.replace(old, new)
    more = {"results": lambda: measured(reader), "rpr": of_other_libraries}
    names = {**reader, **more.get(name, dict)()}
    exec(compile(code, page.name, "exec"), names)
    if name == "README":
        assert names["scores"].first_failure.shape == (12,)
        assert Path("audit/report.html").exists()
    if name == "results":
        pictures = {"heat", "epsilons", "passes", "severities", "gallery", "mine"}
        assert {f"{picture}.png" for picture in pictures} <= {p.name for p in Path().iterdir()}


def typed_on_pages() -> list[tuple[str, list[str]]]:
    """Returns the page and the words of every command of rbjax that a page tells its reader."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block["language"] == "sh":
                for line in block["code"].replace("\\\n", " ").splitlines():
                    if not re.match(r"(srun |docker .*)?(python -m rbjax|rbjax )", line):
                        continue
                    words = shlex.split(line, comments=True)
                    if "rbjax.main" in words:
                        found.append((page.stem, words[words.index("rbjax.main") :]))
                    elif words[:1] == ["rbjax"] and words[1] in ("train", "score", "evaluate"):
                        job = console._job(words[1], words[2:])
                        found.append((page.stem, ["rbjax.main", *job]))
    return found


def test_commands_of_pages_name_fields_and_values_that_there_are(reader_folder):
    """Each is resolved as its job would be, but of data and runs that only its reader has."""
    np.savez("robust.npz", example_ids=np.arange(9))
    commands = [(page, words) for page, words in typed_on_pages() if "--config" in words[1]]
    assert len(commands) > 25
    resolved = 0
    for _, words in commands:
        if any("mylab" in word for word in words):
            continue  # the page that writes it is run above
        command = command_line.parse(words)
        if command.config.task != "evaluate" and "path" not in " ".join(command.typed):
            command_line.resolve(command.config, command.workdir, typed=command.typed)
            resolved += 1
    assert resolved > 10


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


def test_what_the_pages_load_besides_is_there():
    """A style for narrow windows, and names for what is drawn as icons alone."""
    conf, folder = (ROOT / "docs/conf.py").read_text(encoding="utf-8"), ROOT / "docs/_static"
    assert 'html_static_path = ["_static"]' in conf
    loaded = re.findall(r'html_(?:css|js)_files = \["([^"]+)"\]', conf)
    assert sorted(loaded) == sorted(file.name for file in folder.iterdir())
    assert "overflow-wrap: anywhere" in (folder / "narrow.css").read_text(encoding="utf-8")
