"""P1's three levels on CIFAR-100, by name, and the command that draws them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from configs import standard_cifar100
from experiments.rendezvous import levels
from rbjax.data import imbalance

EACH = np.full(100, 500)


def test_counts():
    counts = levels.levels(EACH)
    assert {level: own.sum() for level, own in counts.items()} == {
        "balanced": 50000,
        "linear": 25250,
        "long_tailed": 10847,
    }
    for level in ("linear", "long_tailed"):
        assert (counts[level][0], counts[level][-1]) == (500, 5)
        assert np.all(np.diff(counts[level]) <= 0)


@pytest.mark.parametrize("level", imbalance.LEVELS)
def test_configs_have_the_same_levels(level):
    given = standard_cifar100.get_config(level).imbalance
    made = (
        imbalance.create(given.name, class_counts=EACH, imbalance_ratio=given.imbalance_ratio)
        if level != "balanced"
        else imbalance.create(given.name, class_counts=EACH)
    )
    np.testing.assert_array_equal(made, levels.levels(EACH)[level])


def test_command(tmp_path, capsys):
    out = tmp_path / "levels.png"
    assert levels.main([f"--out={out}"]) == 0
    assert "long_tailed" in capsys.readouterr().out
    with Image.open(out) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(10**6) or []}
    # The three panels' bars are there.
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0x00, 0x9E, 0x73)} <= colours
    assert levels.main([f"--out={tmp_path}/nowhere/levels.png"]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert levels.main(["--dataset=cifar1"]) == 2
    assert "did you mean 'cifar1" in capsys.readouterr().err
    assert levels.main(["--ratio=1000"]) == 2
    assert "class 90 would have no examples" in capsys.readouterr().err
