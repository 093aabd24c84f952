"""Pages of every kind in a browser: narrow and wide, light and dark, sorted, legible, labelled."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from rbjax import config as schema
from rbjax.analysis import document, figures, inline, markdown, page, page_of_comparison
from rbjax.sweep import Cell
from rbjax.sweep import page as page_of_grid
from tests.analysis.test_page import COLUMNS, NAMES, RNG, content
from tests.analysis.test_page_of_comparison import comparison

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCRIPT = Path(__file__).with_name("pages.js").read_text("utf-8")
LONG = "a_class_whose_name_is_a_very_long_word_without_any_room_to_break_it_into_lines"


def evaluation(path: Path) -> None:
    records = [{"step": i, "epoch": i, "train/loss": 0.5, "train/accuracy": 0.5} for i in (1, 2)]
    images, delta = RNG.random((2, 6, 6, 1)), 0.1 * np.ones((6, 6, 1), np.float32)
    shown: dict[str, Any] = {"perturbations": {"uap": delta}, "images": images}
    page.write(path, content(NAMES, COLUMNS, **shown, labels=np.arange(2), records=records))


def audit(path: Path) -> None:
    """An evaluation with scores, datapoints and checks, as an audit writes it."""
    curves = {"survival": [1, 0.5, 0.5], "class_survival": [[1, 0.5, 0.5]] * 2 + [[np.nan] * 3]}
    curves |= {f"{name}_band": [curve, curve] for name, curve in curves.items()}
    robust = {"robust_ratio": 0.5, "robust_ratio_interval": [0.2, 0.8], **curves}
    scores = {"max_steps": 2, "num_examples": 8, "split": "test", "all": robust}
    points: dict[str, Any] = {"images": RNG.random((4, 6, 6, 1)), "labels": np.arange(4) % 2}
    points |= {"example_ids": np.arange(4), "first_failure": np.array([1, 2, 3, 3])}
    page.write(path, content([LONG, *NAMES[1:]], COLUMNS, scores=scores, datapoints=points))


def experiment(path: Path) -> None:
    text = (
        f"Training images: all; `{LONG}`.\n\n### Answer\n\n- holds: a: +1.0 (+0.2 to +1.8).\n"
        "- is reversed: b.\n- is open: c.\n\n### Ours beside the paper's\n\n#### Table 1\n\n"
        f"| network | ours | paper | classes | here |\n|{'---|' * 5}\n"
        f"| {LONG} | 55.4 (54.1 to 56.7) | 1,000 | deer, cat, and bird as the lowest | holds |\n"
        "| b | 6.0 (5.4 to 6.7) | | cat | fails |\n| c | 17.5 (0.0 to 20.0) | 3 | 7, 9 | open |"
    )
    cells = [Cell(f"{LONG}.{seed}", schema.default()) for seed in range(3)]
    made = page_of_grid.Origin(1, 3, {"rbjax": ["0.1.0"]}, ["cpu"], ["2026-11-30"])
    about = page_of_grid.About(
        title="An experiment",
        cells=cells,
        made=made,
        missing={"not run yet": [cell.name for cell in cells[1:]]},
        command="python -m experiments.one --scale=cpu",
        first=("Answer",),
    )
    with inline.gathered() as pictures:
        figure = Figure(figsize=(11, 4))
        for i, axes in enumerate(figure.subplots(1, 2)):
            axes.plot([0, 1], color="black", label="a line")
            axes.set_title(f"panel {i}")
            axes.legend()
        figures.save(figure, path.with_name("drawn.png"))
    page_of_grid.write(path.parent, *markdown.sections(text), about, pictures)
    (path.parent / page.document.PAGE_FILE).rename(path)


PAGES = {
    "evaluation": evaluation,
    "audit": audit,
    "comparison": lambda path: page_of_comparison.write(path, comparison((LONG, *NAMES[1:]))),
    "experiment": experiment,
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for name, write in PAGES.items():
        write(folder / f"{name}.html")
    return {name: (folder / f"{name}.html").read_text("utf-8") for name in PAGES}


def looked_at(
    texts: dict[str, str], folder: Path, *, dark: bool, widths: tuple[int, ...] = (360, 1280)
) -> dict[str, Any]:
    """Returns what `pages.js` finds in each page at each width, and the page's background."""
    frames = "".join(
        f'<iframe title="{name}" width={width} height=900 style="border:0; color-scheme: inherit" '
        f'srcdoc="{html.escape(text)}"></iframe>'
        for name, text in texts.items()
        for width in widths
    )
    (folder / "all.html").write_text(
        '<!DOCTYPE html><meta name="color-scheme" content="light dark"><link rel="icon" '
        f'href="data:,">{frames}<pre id="found"></pre><script>{SCRIPT}</script>',
        "utf-8",
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += ["--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    options += ["--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom"]
    command = [str(CHROMIUM), *options, (folder / "all.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "CONSOLE" not in seen.stderr
    found = re.search(r'<pre id="found">(.*?)</pre>', seen.stdout, re.S)
    assert found
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_nothing_is_wrong_with_a_small_page(tmp_path: Path):
    """Every part of a page but pictures, narrow and light: cheap enough to be looked at always."""
    headings = ["class", "images", "clean", "attacked by a very long name", "worst", "verdict"]
    cell = document.Cell
    rows = [
        [
            cell(LONG, i),
            *(cell(f"{x}", x) for x in (30 - i, 99.5, 50.0 + i, i)),
            cell("b", None, at),
        ]
        for i, at in enumerate(("passed", "failed", "soft"))
    ]
    foot = [["mean", "", "99.5", "51.0", "1.0", ""]]
    parts = [
        document.Words([("strong", "a"), ("code", LONG), ("", LONG)]),
        document.Listed([[("failed", "is reversed"), ("", LONG)]]),
        document.Table(headings, rows, foot, "Per cent of each class."),
        document.Folded([("strong", "3 not run yet")], f"{LONG}, {LONG}."),
    ]
    tiles = [document.Tile("clean", "99.5 %", "98.0 to 99.9", LONG)]
    made = document.Made([("Made", LONG)], {"rbjax": "0.1.0"}, "cpu", 0, [("All", [("a", LONG)])])
    page_of_it = document.Document(
        LONG, [[("", LONG)]], tiles, [document.Section(LONG, parts, short=LONG)], made
    )
    document.write(tmp_path / "small.html", page_of_it)
    texts = {"small": (tmp_path / "small.html").read_text("utf-8")}
    seen = looked_at(texts, tmp_path, dark=False, widths=(360,))
    assert seen == {"background": "rgb(255, 255, 255)", "found": [["small", 360, []]]}


@pytest.mark.full_size
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wrong_with_any_page(texts: dict[str, str], tmp_path: Path, dark: bool):
    seen = looked_at(texts, tmp_path, dark=dark)
    assert seen["background"] == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    sizes = [(name, width) for name, width, _ in seen["found"]]
    assert sizes == [(name, width) for name in PAGES for width in (360, 1280)]
    assert {f"{name} at {width}": wrong for name, width, wrong in seen["found"] if wrong} == {}


@pytest.mark.full_size
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_what_is_wrong_is_found(tmp_path: Path):
    """The check itself: each kind of fault once."""
    table = (
        '<table class="sortable"><thead><tr><th><button>a</button></th></tr></thead><tbody>'
        '<tr><td data-value="2">2</td></tr><tr><td data-value="1">1</td></tr></tbody></table>'
    )
    faulty = (
        '<!DOCTYPE html><h1>a</h1><h3>b</h3><nav><a href="#none">c</a></nav><img src="data:,">'
        '<p style="width: 500px">wide</p><p style="color: #aaa">faint</p><button> </button>'
        f'<div role="img"></div>{table}'
    )
    seen = looked_at({"faulty": faulty}, tmp_path, dark=False)
    (narrow, wide) = (wrong for _, _, wrong in seen["found"])
    kinds = ("heading 1 skips", "#none is nowhere", "image without", "contrast 2.3", "button with")
    for kind in (*kinds, "part without", "table 0, column 0"):
        assert all(any(kind in one for one in found) for found in (narrow, wide)), kind
    assert any("px: wide" in one for one in narrow)
    assert not any("px" in one for one in wide)
