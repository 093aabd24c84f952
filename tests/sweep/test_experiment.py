"""The command of an experiment: its options, tables, page and forecast."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from rbjax import analysis, sweep
from rbjax.analysis import figures
from rbjax.cost import Part
from rbjax.errors import StoppedError
from rbjax.preflight import Measured
from tests.sweep.grids import config, failing


def table(results):
    return json.dumps({name: result["square"] for name, result in results.items()})


def test_the_command_line(cells, calls, tmp_path, capsys):
    def command(*arguments, cells=cells):
        return sweep.command(
            {"smoke": lambda: cells, "cpu": lambda: cells * 2},
            {"smoke": table, "cpu": table},
            name="squares",
            doc="Squares.",
            argv=[f"--workdir={tmp_path}", *arguments],
        )

    assert command("--only=cell-2") == 0
    out = capsys.readouterr().out
    assert '{"cell-2": 4}' in out
    assert "not run yet: cell-0, cell-1, cell-3" in out
    assert command() == 0
    assert "not run yet" not in capsys.readouterr().out
    assert calls == [2, 0, 1, 3]
    assert command("--scale=smok") == 2
    assert "did you mean 'smoke'" in capsys.readouterr().err
    assert command("--only=nothing") == 2
    assert command("--scale=cpu") == 2  # names given twice
    capsys.readouterr()
    stops = failing([sweep.Cell("stops", config(6))], calls, {6: StoppedError("stopped")})
    assert command(cells=[*cells, *stops]) == 75
    printed = capsys.readouterr()
    assert '"cell-3": 9' in printed.out  # what is there is shown
    assert "python -m experiments.squares --scale=smoke`, 4 of 5 cells, rbjax" in printed.out
    assert (tmp_path / "results" / "table.md").read_text() in printed.out
    page = (tmp_path / "results" / "report.html").read_text("utf-8")
    assert "python -m experiments.squares --scale=smoke" in page
    assert "<strong>4 of 5</strong>" in page
    assert "1 not run yet</strong></summary>\n<p>stops.</p>" in page
    assert "stopped" in printed.err
    more = [*cells, sweep.Cell("new-0", config(7)), sweep.Cell("new-1", config(8)), *stops]
    assert command("--dry_run", cells=more) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("data: digits, 16 x 16 x 1, 10 classes: 64 train, 50 test ")
    assert re.search(r"^cell-0 +finished$", printed, re.M)
    assert re.search(r"^stops +not known", printed, re.M)
    first, second = re.findall(r"^new-\d +(4 +.+)$", printed, re.M)
    assert first == second  # but for the seed the same: measured once
    bad = failing([sweep.Cell("bad", config(9))], calls, {9: RuntimeError("no")})
    assert command(cells=bad) == 1
    assert "failed (see failures/): bad" in capsys.readouterr().out


def test_a_grid_without_any_result_has_a_table_too(cells, calls, tmp_path, capsys):
    """Stopped or failed in its first cell, which leaves no folder of results."""
    ends = ((StoppedError("stopped"), "", 75), (RuntimeError("no"), "failed", 1))
    for error, words, status in ends:
        folder = tmp_path / (words or "stopped")
        code = sweep.command(
            {"smoke": lambda error=error: failing(cells[:1], calls, {0: error})},
            {"smoke": table},
            name="squares",
            doc="Squares.",
            argv=[f"--workdir={folder}"],
        )
        assert code == status
        assert words in capsys.readouterr().out
        assert "0 of 1 cells" in (folder / "results" / "table.md").read_text()


def test_the_page_of_a_grid(cells, calls, tmp_path, capsys):
    """Conclusions first, figures as they are drawn, what is missing; --report runs nothing."""

    def tables(results):
        return (
            "One **line** above.\n\n### Numbers\n\n| a | ours | verdict |\n|---|---|---|\n"
            f"| <b> | 1,000 (1 to 2) | {'holds' if len(results) == 1 else 'fails'} |\n\n"
            "### Answer\n\n- is open: `x`: +1.0.\n- missing.\n\n#### More\n\nof it"
        )

    def draw(results, folder):
        figure = Figure(facecolor="white")
        axes = figure.add_subplot(title="Squares, n = 4")
        axes.plot([1, 2], label="a line")
        axes.legend()
        figures.save(figure, folder / "some_squares.png")

    def command(*arguments):
        return sweep.command(
            {"smoke": lambda: cells},
            {"smoke": tables},
            name="squares",
            doc="Counts & squares.",
            figures={"smoke": draw},
            conclusions=("Answer",),
            argv=[f"--workdir={tmp_path}", *arguments],
        )

    assert command("--only=cell-2") == 0
    page = (tmp_path / "results" / "report.html").read_text("utf-8")
    (tmp_path / "results" / "report.html").unlink()
    assert command("--report") == 0
    assert calls == [2]
    again = (tmp_path / "results" / "report.html").read_text("utf-8")
    assert re.sub("<p>Page written.*", "", again) == re.sub("<p>Page written.*", "", page)
    headings = re.findall(r"<h(\d) id=[^>]*>([^<]*)<", page)
    expected = [
        *zip("23222", ("Answer", "More", "Numbers", "Figures", "What is missing"), strict=True)
    ]
    assert headings == [*expected, ("2", "How it was made")]
    assert "<h1>squares: Counts &amp; squares</h1>" in page
    assert "One <strong>line</strong> above." in page
    assert '<span class="soft">is open</span>: <code>x</code>: +1.0.' in page
    assert '<td data-value="1000.0">1,000 (1 to 2)</td><td class="words passed">holds</td>' in page
    tiles = re.findall(r"<li>([^<]+)<strong>([^<]*)</strong>", page)
    assert tiles == [
        ("runs that are finished", "1 of 4"),
        ("claims that hold", "1 of 3"),
        ("claims that do not hold", "0 of 3"),
        ("claims that are open or missing", "2 of 3"),
    ]
    assert "<figcaption>some squares: Squares, n = 4</figcaption>" in page
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "#ffffff" not in svg  # the page's own colour shows through
    assert "a line</text>" in svg
    assert "3 not run yet</strong></summary>\n<p>cell-0, cell-1, cell-3.</p>" in page

    results = tmp_path / "results"
    with pytest.raises(ValueError, match=r"squares --scale=smoke --results=.* --report makes its"):
        analysis.report(results)
    capsys.readouterr()


def test_without_runs_the_results_that_are_kept_are_reported(
    cells, calls, tmp_path, monkeypatch, capsys
):
    """Of an experiment in a clone, where nothing has been run; others are not mixed with them."""
    kept = "experiments/squares/results"
    monkeypatch.chdir(tmp_path)
    sweep.run(cells[:1], "elsewhere", results=kept)

    def command(*arguments, cells=cells):
        given: Any = {"name": "squares", "doc": "Squares.", "argv": arguments, "kept": Path(kept)}
        assert sweep.command({"smoke": lambda: cells}, {"smoke": table}, **given) == 0
        return capsys.readouterr()

    others = [sweep.Cell("cell-0", config(8), cells[0].run)]
    assert "0 of 1 cells" in command("--report", "--workdir=others", cells=others).out
    printed = command("--report")
    assert "1 of 4 cells" in printed.out
    assert kept in printed.err
    assert Path(kept, "report.html").exists()
    assert not Path("runs").exists()
    command("--only=cell-2")
    printed = command("--report")
    assert "cell-2" in printed.out
    assert kept not in printed.err


def test_switches_figures_and_the_cost_of_a_function_of_ones_own(cells, calls, tmp_path, capsys):
    """What is typed reaches grid, table, figures, the folder and the line above the table."""

    def grid(*, twice, unit):
        made = [cells[0]._replace(options={"twice": twice}, run=squared) for _ in range(1)]
        return [cell._replace(passes=1000) for cell in made] + [cells[1]]

    def squared(config, workdir, *, twice):
        return {"square": (1 + twice) * 7}

    def draw(results, folder, *, twice, unit):
        (folder / "figure.txt").write_text(f"{twice} {results['cell-0']['square']} {unit}")

    def command(*arguments):
        return sweep.command(
            {"smoke": grid},
            {"smoke": lambda results, twice, unit: f"{twice}: {table(results)}"},
            name="squares",
            doc="Squares.",
            figures={"smoke": draw},
            switches={"twice": "counts twice"},
            settings={"unit": "of the squares"},
            argv=["--only=cell-0", *arguments],
        )

    with contextlib.chdir(tmp_path):
        assert command("--twice") == 0
        assert command("--twice", "--unit=km/h") == 0
        assert command("--dry_run") == 0
    folder = tmp_path / "runs" / "squares_smoke_twice" / "results"
    assert (folder / "figure.txt").read_text() == "True 14 None"
    other = folder.parent.with_name("squares_smoke_twice_unit=km-h") / "results" / "figure.txt"
    assert other.read_text() == "True 14 km/h"
    printed = capsys.readouterr().out
    assert "--scale=smoke --twice --unit=km/h`, 1 of 2 cells" in printed
    assert "--scale=smoke --twice`, 1 of 2 cells" in printed
    assert 'True: {"cell-0": 14}' in printed
    assert re.search(r"^cell-0 +4 +\S+ +[\d.]+ m?s$", printed, re.M)


def test_a_dry_run_that_is_stopped_writes_nothing(cells, tmp_path, monkeypatch):
    def stopped(*_):
        raise StoppedError("stopped")

    monkeypatch.setattr("rbjax.sweep.experiment.forecast", stopped)
    typed = [f"--workdir={tmp_path / 'grid'}", "--dry_run"]
    scales = {"smoke": lambda: cells}, {"smoke": table}
    assert sweep.command(*scales, name="squares", doc="Squares.", argv=typed) == 75
    assert not (tmp_path / "grid").exists()


def test_a_forecast_sums_all_parts_of_each_cell(tmp_path, monkeypatch):
    asked = []

    def measure(config, workdir, *, passes):
        asked.append((config.seed, config.dataset.cutout_size, passes))
        parts = [
            Part("training", "", 30.0, steps=5, flops=2e12),
            Part("uap", "", 90.0),
            Part("pgd", "", None),
        ]
        if config.dataset.cutout_size:
            parts.append(Part("RPR", "", 3600.0, is_most=True))
        size = config.dataset.max_train_examples
        return Measured([f"data: {size} images", "class  train"], parts, {})

    monkeypatch.setattr("rbjax.sweep.experiment.measure", measure)
    cells = [sweep.Cell(f"a{seed}", config(seed)) for seed in range(3)]
    cells += [sweep.Cell("b", config(cutout_size=4))]
    small = config()
    small.dataset.max_train_examples = 60
    cells += [sweep.Cell("c", small, lambda *_: {}, passes=7)]
    assert [line.split() for line in sweep.forecast(cells, str(tmp_path)).splitlines()[:-2]] == [
        *(["data:", "64", "images"], ["class", "train"], ["data:", "60", "images"], []),
        ["cell", "steps", "TFLOP", "time"],
        *([f"a{seed}", "5", "2", "2", "min"] for seed in range(3)),
        ["b", "5", "2", "at", "most", "62", "min"],
        ["c", "5", "2", "2", "min"],
        ["all", "that", "is", "left", "25", "10", "at", "most", "70", "min"],
    ]
    assert sweep.forecast(cells, str(tmp_path)).endswith("without what is not known: pgd")
    assert asked[:3] == [(0, 0, None), (0, 4, None), (0, 0, 7)]
