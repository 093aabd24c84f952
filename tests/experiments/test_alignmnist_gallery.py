from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from experiments import alignmnist_gallery
from rbjax.data import alignmnist


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["alignmnist_gallery", *arguments])
    alignmnist_gallery.main()


def test_each_row_is_a_class_and_each_column_a_block(monkeypatch, tmp_path):
    """Images whose grey says which class and block they are of."""
    labels = np.repeat(np.arange(9, -1, -1), 3).astype(np.int32)

    def fake(split, data_dir, *, path):
        grey = 10 * labels + alignmnist.SPLITS[split]
        return np.tile(grey[:, None, None, None], (1, 28, 28, 1)).astype(np.uint8), labels

    monkeypatch.setattr(alignmnist, "load_split", fake)
    out = tmp_path / "grid.png"
    run(monkeypatch, f"--out={out}", "--path=some.npz", "--columns=3")
    picture = np.asarray(Image.open(out))
    assert picture.shape == (600, 244)
    # Each image is 56 pixels and 4 of a line; 4 more after the first column.
    found = picture[20::60, [20, 84, 144, 204]]
    np.testing.assert_array_equal(found, 10 * np.arange(10)[:, None] + np.arange(4))


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--columns=76", "--columns is 76; allowed: 1 to 75"), ("--path=x.npz", "x.npz is missing")],
)
def test_a_wrong_argument_is_an_error_of_one_line(monkeypatch, tmp_path, capsys, argument, message):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, f"--out={tmp_path / 'grid.png'}", argument)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
