"""`rbjax sweep`: a config over values of its fields, and means over seeds."""

import contextlib
import csv
import json
import math
import re

import numpy as np
import pytest

from rbjax import __main__ as command
from rbjax import analysis
from rbjax import main as jobs
from rbjax.analysis.evaluation import Report
from rbjax.sweep import grid, over, summary

CONFIG = """
from rbjax import config as schema


def get_config(variant=""):
    config = schema.default()
    config.dataset.update(max_train_examples=64, max_test_examples=50)
    config.batch_size, config.num_epochs, config.diagnostics = 32, 1, 0
    config.model.name, config.model.widths = "mlp", (8,)
    config.attacks.fgsm = schema.attack("fgsm", epsilon=0.1)
    config.score.max_steps = 0
    return config
"""


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Runs `rbjax sweep` on a small config; gives the exit code, what is printed, and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(CONFIG)

    def run(*arguments):
        code = command.main(["sweep", "small.py", "--workdir=grid", *arguments])
        return code, *capsys.readouterr()

    return run


def test_axes_keep_the_commas_of_their_values():
    widths, seed, name, epsilon, theirs = over.axes(
        [
            "model.widths=8,8;(16, 32)",
            "seed=1;0",
            "method.name=pgd;mylab.methods:noisy",
            "method.epsilon=2/255; 4/255",
            "attacks.pgd.epsilon=0.1;0.2",
        ]
    )
    assert widths == ("model.widths", ("8,8", "(16, 32)"), "widths")
    assert epsilon == ("method.epsilon", ("2/255", "4/255"), "method.epsilon")
    assert theirs.title == "pgd.epsilon"
    assert name.title == "method"
    found = over.by_values([widths, seed])
    assert found == {
        ("8,8",): ["seed=1,widths=8+8", "seed=0,widths=8+8"],
        ("(16, 32)",): ["seed=1,widths=16+32", "seed=0,widths=16+32"],
    }
    assert list(over.by_values([epsilon])) == [("2/255",), ("4/255",)]
    assert over.by_values([epsilon])["2/255",] == ["method.epsilon=2_255"]


@pytest.mark.parametrize("values", ["model.widths=8,8;16,32", "method.epsilon=2/255;4/255"])
def test_a_grid_takes_the_names_of_any_values(values, tmp_path):
    configs = over.configs(["--config=uat_digits"], over.axes([values]))
    cells = [grid.Cell(name, config) for name, config in configs.items()]
    assert len(cells) == 2
    assert grid.read(cells, str(tmp_path)) == {}


def test_a_cell_has_one_name_whatever_else_is_typed():
    """Or a finished run would be run again."""
    seed, epsilon = over.axes(["seed=0;1", "method.epsilon=0.1;0.2"])
    names = {name for cells in over.by_values([seed, epsilon]).values() for name in cells}
    swapped = {name for cells in over.by_values([epsilon, seed]).values() for name in cells}
    assert names == swapped >= {"seed=0,epsilon=0.1"}
    # Values that are spelled alike have names of their own, beside each other or not.
    found = [over.by_values(over.axes([f"dataset.path={v}"])) for v in ("a/b;a:b", "a/b;c")]
    (first,), (second,) = found[0].values()
    assert first != second
    assert re.fullmatch(r"path=a_b-[0-9a-f]{6}", first)
    assert found[1]["a/b",] == [first]


def test_an_attack_that_counts_one_class_alone_is_measured_on_it(tmp_path, monkeypatch):
    """All of class 0 are fooled, and class 1 was not attacked."""
    labels = np.array([0, 0, 1, 1])
    arrays = {"labels": labels, "clean": labels, "worst": np.array([False, False, True, True])}
    arrays |= {"pgd": np.array([1, 1, 1, 1]), "pgd/counted": labels == 0}
    matrix = {"confusion": np.eye(2, dtype=int)}
    report = Report(order=["clean", "pgd"], class_names=["a", "b"], class_counts=[2, 2], step=1)
    report.update(results={"clean": matrix, "pgd": matrix}, train_class_counts=None, config={})
    monkeypatch.setattr(grid, "read_report", lambda _: report)
    monkeypatch.setattr(grid, "read_arrays", lambda *_: contextlib.nullcontext(arrays))
    found = summary.measures({**grid._evaluated(str(tmp_path))})
    assert found["clean"] == (1, 1, 1)
    assert found["pgd"] == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--over=sed=0;1"], r"--over=sed: no field 'sed'; did you mean 'seed'"),
        (["--over=seed=0;one"], r"--over=seed=one: 'one' is not a number"),
        (["--over=method.epsilon=0.1;2"], r"epsilon = 0.1: not a field of 'standard'.*epsilon=0.1"),
        (
            ["--over=seed=0;1", "--over=loss.name=cross_entropy;focl"],
            r"loss.name = 'focl': unknown.*did you mean 'focal'.*in seed=0,loss=focl and 1 more",
        ),
        (["--over=seed=0"], r"must have two values or more.*in quotes"),
        (["--over=seed=0;1;"], r"must have two values or more"),
        (["--over=seed"], r"write --over='FIELD=VALUE;VALUE'"),
        (["--over=seed=0;1;0"], r"has the value 0 twice"),
        (["--over=seed=0;1", "--over=seed=2;3"], r"--over=seed: given twice"),
        (["--over=seed=0;1", "--config.seed=1"], r"--config.seed: is swept over"),
        (["--over=num_epochs=1;1.0"], r"num_epochs=1 and num_epochs=1.0 are the same run"),
        (["--over=task=train;score"], r"cannot be swept over: a table is of runs of one task"),
        (["--ovr=seed=0;1"], r"--ovr: no such option.*did you mean '--over'"),
        (["--over=seed=0;1", "--only=7"], r"--only=7: in no name of 2 cells: seed=0, seed=1"),
        (["--over=seed=0;1", "--engine=rai"], r"did you mean 'ray'"),
        ([], r"--over='FIELD=VALUE;VALUE' is missing"),
    ],
)
def test_mistakes_are_said_before_anything_runs(typed, tmp_path, arguments, words):
    code, _, said = typed(*arguments)
    assert code == 2
    assert re.search(words, said), said
    assert "Traceback" not in said
    assert not (tmp_path / "grid").exists()


def test_a_grid_is_run_tabulated_and_goes_on(typed, tmp_path, monkeypatch):
    code, printed, _ = typed("--over=seed=0;1", "--over=dataset.cutout_size=0;5", "--dry_run")
    assert code == 0
    assert "4 runs of small: 2 of seed (0; 1) x 2 of dataset.cutout_size (0; 5)" in printed
    assert len(re.findall(r"^seed=\d,cutout_size=\d +2 ", printed, re.M)) == 4
    assert not (tmp_path / "grid").exists()

    # One fails, and the other goes on: the next command runs that alone.
    grid, whole, begun = "--over=seed=0;1", jobs.run, []

    def cut(config, workdir):
        begun.append(workdir)
        if len(begun) == 1:
            raise RuntimeError("out of luck")
        whole(config, workdir)

    monkeypatch.setattr(jobs, "run", cut)
    code, printed, _ = typed(grid)
    assert code == 1
    assert re.search(r"^clean +1 of 2 +[\d.]+ ", printed, re.M)
    assert "failed (see failures/): seed=0" in printed
    monkeypatch.setattr(jobs, "run", lambda *_: pytest.fail("it was finished"))
    code, printed, _ = typed(grid, "--only=seed=1")
    assert code == 0
    assert "not run yet: seed=0" in printed
    monkeypatch.setattr(jobs, "run", whole)
    code, printed, _ = typed(grid)
    assert code == 0
    assert "fgsm: linf, epsilon 0.1\n" in printed

    # The means are those of the reports in the run directories.
    table = {row["under"]: row for row in rows(tmp_path / "grid")}
    assert list(table) == ["clean", "fgsm"]
    texts = [(tmp_path / f"grid/seed={seed}/report.json").read_text() for seed in (0, 1)]
    for label, row in table.items():
        found = [json.loads(text)["results"][label] for text in texts]
        accuracy = [each["summary"]["accuracy"] for each in found]
        assert float(row["accuracy_mean"]) == pytest.approx(np.mean(accuracy))
        assert float(row["accuracy_deviation"]) == pytest.approx(np.std(accuracy, ddof=1))
        lowest = [min(each["classwise"]["recall"]) for each in found]
        assert float(row["worst_class_mean"]) == pytest.approx(np.mean(lowest))
        assert re.search(rf"^{label} +2 +{100 * np.mean(accuracy):.1f} ± ", printed, re.M)
    about = json.loads((tmp_path / "grid/sweep.json").read_text())
    assert about["over"] == {"seed": ["0", "1"]}
    assert about["missing"] == {}
    page = (tmp_path / "grid/report.html").read_text("utf-8")
    assert "<strong>2 of 2</strong>" in page
    assert "fgsm: linf, epsilon 0.1" in page
    assert re.search(r"<td[^>]*>clean</td>|<th[^>]*>clean</th>", page)
    with pytest.raises(ValueError, match="holds a sweep; its command, given again, makes its rep"):
        analysis.report(tmp_path / "grid")

    code, _, said = typed(grid, "--config.num_epochs=2")
    assert code == 2
    assert "is of another config (num_epochs = " in said
    code, _, said = typed(grid, "--workdir=grid/seed=0")
    assert code == 2
    assert "is a run directory; give a folder for many runs" in said


def rows(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def result(correct, *, epsilon=0.1, **more):
    parts = {label: {"correct": counts} for label, counts in correct.items()}
    settings = {"pgd": ["linf", epsilon, "20 steps"]}
    return {"results": parts, "count": [10, 30, 0], "settings": settings, **more}


def test_means_by_hand():
    """Two seeds of a model; a class without images counts for nothing."""
    results = {
        "a0": result({"clean": [10, 15, 0], "pgd": [2, 6, 0], "worst": [0, 0, 0]}),
        "a1": result({"clean": [8, 24, 0], "pgd": [0, 12, 0], "worst": [0, 0, 0]}),
        "b0": result(
            {"clean": [5, 15, 0], "pgd": [5, 15, 0], "worst": [5, 15, 0]},
            epsilon=0.2,
            rpr={"count": [10, 30, 0], "robust": [1, 9, 0], "max_steps": 5},
            corruptions={"fog": [0.5, 0.3], "blur": [0.8]},
        ),
    }
    names = {("a",): ["a0", "a1"], ("b",): ["b0", "b1"], ("c",): ["c0"]}
    clean, pgd, *others = summary.rows_of(names, results)
    assert [row.under for row in (clean, pgd, *others)] == [
        *("clean", "pgd", "clean", "pgd", "corruptions", "RPR")
    ]
    assert clean.mean("accuracy") == pytest.approx((25 / 40 + 32 / 40) / 2)
    assert clean.mean("balanced") == pytest.approx((0.75 + 0.8) / 2)
    assert clean.mean("worst_class") == pytest.approx((0.5 + 0.8) / 2)
    assert clean.deviation("accuracy") == pytest.approx(abs(25 - 32) / 40 / math.sqrt(2))
    corrupted, rpr = others[2:]
    assert corrupted.mean("accuracy") == pytest.approx((0.4 + 0.8) / 2)
    assert math.isnan(corrupted.mean("balanced"))
    assert rpr.mean("accuracy") == pytest.approx(10 / 40)
    assert math.isnan(rpr.deviation("accuracy"))
    axes = over.axes(["seed=0;1", "method.name=a;b;c"])
    text = repr(summary.sheet("small", axes, [clean, pgd, *others]))
    # Models that were attacked otherwise are not compared without its being said.
    assert "pgd: not the same attack in all rows" in text
    assert re.search(r"^a +pgd +linf, epsilon 0.1, 20 steps +2 +25.0 ± 7.1 ", text, re.M)
    assert re.search(r"^b +pgd +linf, epsilon 0.2, 20 steps +1 of 2 +50.0 ", text, re.M)
