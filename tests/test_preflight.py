"""`--dry_run` of every job: what it would read, make, take and write, and that nothing is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from rbjax import __main__ as command
from rbjax import attacks, cost
from rbjax import config as schema
from rbjax.attacks import passes
from rbjax.attacks.universal.gradient import count_epochs
from rbjax.command_line import resolve
from rbjax.training import setup

CONFIG = """
from rbjax import config as schema


def get_config(variant=""):
    config = schema.default()
    config.dataset.update(max_train_examples=128, max_test_examples=60, validation_fraction=0.1)
    config.batch_size, config.num_epochs, config.diagnostics = 32, 3, 0
    config.model.name, config.model.widths = "mlp", (8,)
    config.attacks.fgsm = schema.attack("fgsm", epsilon=0.1)
    config.attacks.uap = schema.attack("universal", epsilon=0.1, num_epochs=2, craft_on="train")
    config.score.max_steps = 7
    config.corruptions.name = "contrast"
    config.corruptions.source = "online"
    if variant == "evaluate":
        config.task = "evaluate"
    return config
"""


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Runs `rbjax` in a folder with a small config; gives the exit code, output, and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(CONFIG)

    def run(*arguments):
        code = command.main(list(arguments))
        return code, *capsys.readouterr()

    return run


def files(folder):
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def row(printed, name):
    """Returns what a part's row says, without its name."""
    found = re.search(rf"^{name}  +(.*)$", printed, re.M)
    assert found, f"{name}: {printed}"
    return found[1]


def test_a_job_says_what_it_takes_and_writes_nothing(typed, tmp_path):
    before = files(tmp_path)
    code, printed, _ = typed("train", "small.py", "--workdir=run", "--dry_run")
    assert code == 0
    assert files(tmp_path) == before
    assert not (tmp_path / "run").exists()
    assert "digits, 16 x 16 x 1, 10 classes: 128 train, 145 validation, 60 test" in printed
    assert row(printed, "training").startswith("12 steps of 32 images, ")
    assert row(printed, "validation").startswith("3 times 145 images")
    assert row(printed, "clean").startswith("60 images")
    assert row(printed, "fgsm").startswith("60 images, 2 passes forward and 1 back each")
    # Two epochs of 128 images, and two passes of each of the 60: 376 / 60 and 256 / 60.
    assert row(printed, "uap").startswith("60 images, 6 passes forward and 4 back each")
    assert row(printed, "corruptions").startswith("1 of 60 images, 300 passes")
    assert re.match(r"60 images, up to 7 draws +at most ", row(printed, "RPR"))
    # 60 test images of 10 classes: whichever have fewer than 10 are named.
    config = schema.default()
    config.dataset.max_test_examples = 60
    counts = setup.load_test(resolve(config, "unused")).class_counts
    few = ", ".join(str(i) for i in np.flatnonzero(counts < 10))
    assert f"test images, whose accuracy says little: {few}\n" in printed
    assert re.search(r"^memory: [\d.]+ (MiB|GiB) at most so far", printed, re.M)
    (written,) = re.findall(r"would be written in run \(would be made\): (.*)$", printed, re.M)
    promised = re.sub(r" \([^)]*\)", "", written.replace("the log of tensorboard", "tensorboard/"))

    assert typed("train", "small.py", "--workdir=run")[0] == 0
    made = {f"{p.name}{'/' * p.is_dir()}" for p in (tmp_path / "run").iterdir()}
    pictures = {name for name in made if name.endswith(".png")}
    assert pictures
    assert set(promised.split(", ")) == {"plots", *(made - pictures)}
    assert (tmp_path / "run/checkpoints/best").is_dir()
    assert "in best/)" in written
    before = files(tmp_path)
    code, printed, _ = typed("train", "small.py", "--workdir=run", "--dry_run")
    assert row(printed, "training").startswith(
        "0 steps of 32 images, 0 ms each, from step 12 of 12"
    )
    assert "would be written in run (goes on there)" in printed
    code, _, said = typed("train", "small.py", "--workdir=run", "--dry_run", "--config.seed=1")
    assert code == 2
    assert "seed = 0 there, 1 here" in said
    code, printed, _ = typed("evaluate", "run", "--config=small.py:evaluate", "--dry_run")
    assert code == 0
    assert "training" not in printed
    assert row(printed, "fgsm").startswith("60 images, 2 passes forward")
    assert "RPR" not in printed
    code, printed, _ = typed("score", "small.py", "--workdir=run", "--dry_run")
    assert code == 0
    assert "fgsm" not in printed
    assert re.match(r"60 images, up to 7 draws +at most ", row(printed, "RPR"))

    code, printed, _ = typed("compare", "run", "run", "--num_steps=3", "--dry_run")
    assert code == 0
    assert row(printed, "pgd: run").startswith("60 images, 4 passes forward each")
    assert "would be written: comparison.json, comparison.csv" in printed
    assert files(tmp_path) == before

    stops = ("--config.schedule.early_stop=loss", "--config.score.repetitions=2")
    code, printed, _ = typed("train", "small.py", "--workdir=other", "--dry_run", *stops)
    assert code == 0
    assert re.match(r"12 steps of 32 images, [^ ]+ m?s each +at most ", row(printed, "training"))
    assert re.match(r"3 times 145 images +at most ", row(printed, "validation"))
    assert re.match(r"60 images, up to 7 draws, 2 times +at most ", row(printed, "RPR"))

    (tmp_path / "photographs").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / f"photographs/{name}.png")
    before = files(tmp_path)
    code, printed, _ = typed("predict", "run", "photographs", "--dry_run")
    assert code == 0
    assert "data: 3 images in photographs\neach becomes 16 x 16 x 1; 10 classes" in printed
    assert row(printed, "predict").startswith("3 images")
    assert "would be written: predictions.csv" in printed
    assert files(tmp_path) == before


def test_data_that_are_missing_are_not_fetched(typed, tmp_path):
    (tmp_path / "empty").mkdir()
    fields = ("--config.dataset.name=cifar10", f"--config.data_dir={tmp_path / 'empty'}")
    code, _, said = typed("train", "small.py", *fields, "--dry_run")
    assert code == 2
    assert re.search(r"'cifar10': is not on this machine.*rbjax data cifar10 --prepare", said)
    assert not list((tmp_path / "empty").iterdir())


def test_a_pass_backwards_takes_what_an_attack_takes_beyond_its_passes_forwards():
    rates = cost.Rates(forward=2.0, backward=3.0)
    assert rates.seconds(attacks.Passes(5, 4)) == 22.0
    parts = [
        cost.Part("a", "1 image", 0.5),
        cost.Part("b", "x", None),
        cost.Part("c", "", 60, True),
    ]
    assert cost.times(parts).endswith("in all at most 60.5 s, and what is not known: b")
    assert [cost.spoken(t) for t in (0.0123, 7.25, 600, 7200)] == [
        "12.3 ms",
        "7.25 s",
        "10 min",
        "2 h",
    ]
    assert cost.size_of(3 * 2**20) == "3 MiB"
    assert [count_epochs(None, n, 50) for n in (50, 1000, 10_000)] == [200, 10, 10]


@pytest.mark.parametrize(("num_classes", "num_targets"), [(10, 9), (2, 1)])
def test_the_most_that_autoattack_does_to_an_image(num_classes, num_targets):
    """APGD-CE, APGD-T and FAB-T for each target, 100 steps each; Square's 5,000 queries."""
    most = passes.most("standard", "linf", (4, 4, 1), num_classes)
    assert most.backwards == 101 * (1 + num_targets) + 100 * num_targets
    assert 5000 < most.forwards < 5000 + 3.5 * most.backwards
    assert most.at_most
