"""Names are shown as they are: "$" is no mathematics, "_" hides nothing, nothing dies."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from rbjax.analysis import corrupted, figures, plots
from rbjax.analysis.perturbations import plot_perturbations

REPOSITORY = Path(__file__).parents[2]
NAMES = [
    *("$", "$$", "$a$b", r"\frac", r"$\frac{", "US$5 to AU$10", r"\$", "_", "_background_"),
    *("a_b^c", "^", "%", r"50% \alpha {x}", "日本語", "עברית", "नमस्ते", "👩‍🔬", "x" * 3000, ""),
]
COLUMNS = ["clean", "_mine", r"$\frac{$"]
K = len(NAMES)


def shown(axes: Any) -> list[str]:
    """Returns the texts as they are drawn; one that is read as mathematics fails."""
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    texts += axes.get_legend().get_texts() if axes.get_legend() else []
    drawn = []
    for text in texts:
        string, is_mathematics = text._preprocess_math(text.get_text())
        assert not is_mathematics, text.get_text()
        drawn.append(string)
    return drawn


def drawn_by(draw: Any, *args: Any, **keywords: Any) -> list[str]:
    figure = Figure(dpi=50)
    axes = figure.add_subplot()
    draw(axes, *args, **keywords)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(os.devnull, format="png")
    return shown(axes)


def test_every_name_stands_in_every_plot():
    columns = {name: np.linspace(0, 1, K) for name in COLUMNS}
    bars = drawn_by(plots.draw_classwise, columns, class_names=NAMES)
    assert [name for name in [*NAMES, *COLUMNS] if name not in bars] == []
    some = NAMES[:18]  # of more, the outermost alone are named
    curves = np.linspace(1, 0.1, 18)[:, None] * np.ones((18, 3))
    legend = drawn_by(plots.draw_survival, np.ones(3), curves, class_names=some)
    assert [n for n in some if not any(text.startswith(f"{n}  ") for text in legend)] == []
    curves = np.linspace(1, 0.1, K)[:, None] * np.ones((K, 3))
    axes: Any = Figure().add_subplot()
    plots.draw_survival(axes, np.ones(3), curves, class_names=NAMES)
    assert len(axes.lines) == 1 + K  # named or not, every class is drawn
    report = {
        "order": ["fog", "_$mine$_x_"],
        "class_accuracy": dict.fromkeys(["fog", "_$mine$_x_"], np.full((2, K), 0.5)),
        "accuracy": {"fog": [0.5, 0.5], "_$mine$_x_": [0.5, 0.5]},
    }
    ticks = drawn_by(corrupted.draw_corruptions, report, class_names=NAMES)
    assert [name for name in [*NAMES, "fog", " $mine$ x "] if name not in ticks] == []


def test_whatever_the_settings_of_the_person(tmp_path, caplog):
    """TeX may be switched on in a matplotlibrc, and its program missing."""
    with matplotlib.rc_context({"text.usetex": True, "font.family": ["DejaVu Sans"]}):
        plots.plot_classwise(
            tmp_path / "bars.png", {"clean": np.ones(2)}, class_names=["US$5 to AU$10", "😀日"]
        )
        plot_perturbations(
            tmp_path / "perturbations.png",
            {"_$\\frac{$": np.full((2, 4, 4, 3), 0.1)},
            images=np.zeros((2, 4, 4, 3)),
            labels=np.arange(2),
            class_names=["$", "$a$b"],
        )
    assert {path.name for path in tmp_path.iterdir()} == {"bars.png", "perturbations.png"}
    assert len(caplog.records) <= 1  # of letters that no font here has


def test_a_suffix_says_which_kind_of_picture_is_written(tmp_path):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for suffix, magic in begins.items():
        written = []
        for folder in ("one", "other"):
            (tmp_path / folder).mkdir(exist_ok=True)
            path = tmp_path / folder / f"bars.{suffix.upper() if folder == 'one' else suffix}"
            plots.plot_classwise(path, {"$a$": np.ones(2)}, class_names=["a", "b"])
            written.append(path.read_bytes())
        assert written[0].startswith(magic)
        assert written[0] == written[1]  # no date stands in it
    for name in ("bars.pgn", "bars.gif", "bars.jpeg", "bars"):  # no kind is near another
        suffix = Path(name).suffix
        with pytest.raises(ValueError, match=rf"{name}': .*'{suffix}' .*: \.png, \.pdf, \.svg$"):
            figures.save(Figure(), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}


def test_long_names_are_smaller_letters_and_controls_are_escaped():
    assert figures.size_of("cat", 9) == 9
    assert 2 <= figures.size_of("x" * 80, 9) < 5
    assert figures.size_of("x" * 10_000, 9) == 2
    assert figures.literal("two\nlines") == r"two\nlines"
    assert figures.literal("\udcff") == r"\udcff"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_such"])
def test_an_inherited_backend_is_not_needed(tmp_path, backend):
    """Jupyter's is a package that is not installed wherever rbjax is; it is hidden here."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata\n"
        "every = metadata.entry_points\n"
        "def entry_points(**what):\n"
        "    hidden = what.get('group') == 'matplotlib.backend'\n"
        "    return metadata.EntryPoints(()) if hidden else every(**what)\n"
        "metadata.entry_points = entry_points\n"
    )
    program = (
        "import os, sys; from rbjax.analysis import figures\n"
        "figures.save(figures.Figure(), sys.argv[1]); print(os.environ['MPLBACKEND'])"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}",
        "MPLBACKEND": backend,
    }
    command = [sys.executable, "-c", program, str(tmp_path / "picture.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == backend  # what is started from here still has it
    assert (tmp_path / "picture.png").stat().st_size > 100
