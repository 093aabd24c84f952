"""P4's experiment on stand-ins: stages that resume, the table, and the sentences under it."""

import copy
import json

import jax
import numpy as np
import pytest

from experiments.datapoints import __main__ as program
from experiments.datapoints import figures, plan, results, stages, table
from experiments.datapoints.readings import READINGS, nearest
from experiments.datapoints.stages import Model
from rbjax import data, rpr
from rbjax.data import storage, subset

TINY = plan.Plan(
    readings=1,
    num_seeds=1,
    num_test=48,
    num_train=160,
    per_class=8,
    max_steps=10,
    num_epochs=2,
    max_train_examples=640,
    dataset="digits",
)
KEPT = ("at_most-distinct-uniform", "exactly-repeated-binary")
FIGURES = [f"figure{number}.png" for number in range(1, 6)]


class Killed(BaseException):
    """Not an Exception, so that nothing catches it on its way."""


def keep_two_readings(patch):
    for name in set(READINGS) - set(KEPT):
        patch.delitem(READINGS, name)


@pytest.fixture(scope="module")
def calls():
    """What was scored and trained in each call of the experiment."""
    return []


@pytest.fixture(scope="module")
def lab(tmp_path_factory, calls):
    """A finished experiment that was killed in the middle, and begun a third time."""
    workdir = tmp_path_factory.mktemp("runs") / "datapoints"
    score, train = rpr.score, stages.train

    def scoring(*arguments, **options):
        if len(calls) == 1 and len(calls[0]) == 5:
            raise Killed
        calls[-1].append("score")
        return score(*arguments, **options)

    def training(config, folder):
        calls[-1].append("train")
        train(config, folder)

    with pytest.MonkeyPatch.context() as patch:
        keep_two_readings(patch)
        patch.setitem(plan.SCALES, "tiny", TINY)
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
        patch.setattr(rpr, "score", scoring)
        patch.setattr(stages, "train", training)
        for _ in range(3):
            calls.append([])
            stages.logits_fn.cache_clear()
            try:
                assert program.main(["--scale=tiny", f"--workdir={workdir}"]) == 0
            except Killed:
                assert len(calls) == 1
        yield stages.Lab(workdir, TINY)


@pytest.fixture
def summary(lab):
    return json.loads((lab.workdir / "table.json").read_text())


def test_nothing_is_computed_twice(lab, calls):
    """M; two readings; train; M_R, killed before its scores; M_R's weights; M_C and its scores."""
    assert calls[0] == ["train", "score", "score", "score", "train"]
    assert calls[1].count("score") == 2
    assert "score" not in calls[2]
    # Weights are read again for what is left, and for figure 2; trained already, they are not anew.
    assert len(calls[1]) - 2 == 3
    assert calls[2] == ["train"]
    assert not list(lab.workdir.rglob("*.journal"))


def test_all_is_written(lab):
    for name in (*FIGURES, "table.txt", "table.md", "table.json"):
        assert (lab.workdir / name).stat().st_size > 500
    assert stages.seconds(lab) > 0


def test_the_scores_are_those_of_one_plain_call(lab):
    """Of M on test, although the experiment was killed and begun again."""
    kept = stages.scores(lab, Model(0), KEPT[1], "test")
    test = data.load("digits", "test").take(np.arange(48))
    scores = rpr.score(
        stages.logits_fn(lab, Model(0)),
        stages.draw_key(0),
        test.images,
        test.labels,
        max_steps=10,
        perturbation=READINGS[KEPT[1]].perturbation(),
        example_ids=test.example_ids,
    )
    np.testing.assert_array_equal(kept.first_failure, scores.first_failure)
    np.testing.assert_array_equal(kept.clean_correct, scores.clean_correct)
    assert kept.draws == scores.forward_passes_needed
    assert 0 < kept.robust.sum() < 48


def test_models_are_trained_on_their_subsets(lab):
    reading = results.followed(lab)[0]
    train = stages.scores(lab, Model(0), reading, "train")
    ids = {}
    for kind in stages.KINDS:
        path, chosen = stages.subset(lab, 0, reading, kind)
        ids[kind] = subset.read_ids(path)
        rows = np.isin(train.example_ids, ids[kind])
        counts = np.bincount(train.labels[rows], minlength=10)
        np.testing.assert_array_equal(counts, chosen.class_counts)
        assert rows.sum() == len(ids[kind])
        assert train.robust[rows].all() == (kind == "robust")
        config = json.loads(
            (lab.workdir / "models" / Model(0, kind, reading).name / "config.json").read_text()
        )
        assert config["dataset"]["subset_digest"] == subset.digest(ids[kind])
    assert set(ids["robust"]) != set(ids["random"])


def test_figure_2_shows_the_first_draw_that_fools(lab):
    reading = results.followed(lab)[0]
    found = figures.fooling(lab, reading)
    assert found is not None
    assert found.before == found.label != found.after
    assert 1 <= found.draw <= 10
    changed = np.sum(found.image != found.perturbed)
    assert 0 < changed <= 16  # the square root of 16 x 16 pixels


def test_the_summary_says_what_the_scores_say(lab, summary):
    rows = {row["name"]: row for row in summary["readings"]}
    assert set(rows) == set(KEPT)
    for name, row in rows.items():
        scored = stages.scores(lab, Model(0), name, "test")
        assert row["test"]["mean"] == pytest.approx(np.mean(scored.first_failure > 10))
        right = scored.clean_correct
        assert row["test_right"]["mean"] == pytest.approx(np.mean(scored.robust[right]))
        assert row["test"]["std"] is None
    best = min(KEPT, key=lambda name: abs(rows[name]["test"]["mean"] - 0.2957))
    assert summary["followed"] == [best]
    assert rows[best]["robust"]["test"]["seeds"] is not None
    other = next(name for name in KEPT if name != best)
    assert rows[other]["train"] is rows[other]["robust"] is None
    first = summary["differences"][0]
    models = [Model(0), Model(0, "robust", best)]
    ratios = [results.ratio(stages.scores(lab, model, best, "test")) for model in models]
    assert (first["of"], first["models"]) == ("robust", ["robust", "all"])
    assert first["difference"] == pytest.approx(ratios[1] - ratios[0])
    assert first["low"] < first["difference"] < first["high"]
    assert sum(entry["count"] for entry in first["classes"]) == 48


def test_another_plan_is_refused_in_the_same_folder(lab, capsys):
    assert program.main(["--scale=smoke", f"--workdir={lab.workdir}"]) == 2
    assert "belongs to another config" in capsys.readouterr().err
    assert program.main(["--scale=papre"]) == 2
    assert "did you mean 'paper'" in capsys.readouterr().err


def test_nearest_and_cuts():
    assert nearest({"a": 0.9, "b": 0.3, "c": 0.25}, 0.2957) == ["b", "c", "a"]
    assert plan.cuts(plan.SCALES["paper"]) == []
    lines = plan.cuts(plan.SCALES["cpu"])
    number = plan.SCALES["cpu"].num_train
    assert f"training images scored: {number} in place of all" in lines
    for made in plan.SCALES.values():  # a cut changes how many images, never the draws of a paper
        assert (made.num_train or 60000) <= (made.max_train_examples or 60000)
    assert plan.SCALES["cpu"].max_steps == plan.SCALES["paper"].max_steps == 250


def test_statistics_over_seeds():
    one, three = results.statistic([0.5]), results.statistic([0.1, 0.2, 0.6])
    assert one == {"mean": 0.5, "std": None, "seeds": [0.5]}
    assert three["mean"] == pytest.approx(0.3)
    assert three["std"] == pytest.approx(0.07**0.5)  # (0.04 + 0.01 + 0.09) / 2


def test_the_table_puts_the_paper_first_and_the_nearest_next(summary):
    rows = table.ratios(summary)
    assert {len(row) for row in rows} == {13}
    assert rows[1][:7] == ["paper", "-", "98.85 %", "0.2957", "-", "0.7128", "-"]
    assert rows[1][7:9] == ["96.92 %", "0.5101"]
    assert rows[2][0] == summary["nearest_to_test"][0]
    assert rows[3][5] == "-"
    text, markdown = table.report(summary, markdown=False), table.report(summary, markdown=True)
    for number in rows[2][2:9]:
        assert number in text
        assert f"| {number} |" in markdown
    assert "draws of an image: 10 in place of 250" in text


def test_the_sentences_follow_the_numbers(summary):
    said = table.paragraph(summary)
    assert "so no reading here gives both of its numbers" in said
    changed = copy.deepcopy(summary)
    best = next(r for r in changed["readings"] if r["name"] == summary["followed"][0])
    best["test"]["mean"], best["train"]["mean"] = 0.2957, 0.7128
    said = table.paragraph(changed)
    assert "so both of its numbers may come from one scheme" in said
    assert "0.2957 here, +0.0000" in said
    for entry in changed["differences"]:
        entry.update(difference=0.25, low=0.2, high=0.3)
    assert "+0.2500 (above 0 by its interval in 1, below in 0 of 1 seeds)" in table.paragraph(
        changed
    )
    for row in changed["readings"]:  # as a scale without a reading that is followed has it
        row.update(train=None, train_right=None, robust=None, random=None)
    assert "rain" not in table.paragraph(changed)


def test_a_reading_that_is_not_followed_may_come_nearest(summary):
    """It was not the nearest with the first seed alone, by which the followed ones were chosen."""
    changed = copy.deepcopy(summary)
    other = next(r for r in changed["readings"] if r["name"] not in summary["followed"])
    other["test"]["mean"] = 0.2957
    changed["nearest_to_test"] = [other["name"]]
    said = table.paragraph(changed)
    followed = next(r for r in changed["readings"] if r["name"] == summary["followed"][0])
    assert f"{other['title']}, comes nearest" in said
    assert f"With {followed['title']}, training on robust images alone" in said


def test_train_far_below_test_is_not_the_paper_s_gap(summary):
    changed = copy.deepcopy(summary)
    for row in changed["readings"]:
        if row["train"] is not None:
            row["train"]["mean"] = row["test"]["mean"] - 0.24
    said = table.paragraph(changed)
    assert "at most -0.2400, in the paper by +0.4171, so no reading here gives both" in said


@pytest.mark.real_data
@pytest.mark.slow
def test_real_mnist(tmp_path, monkeypatch):
    """M learns digits in 100 steps, and random pixels fool it on some of them."""
    if storage.find("mnist") is None:
        pytest.skip(f"mnist is not in {storage.default_data_dir()}")
    keep_two_readings(monkeypatch)
    assert program.main(["--scale=smoke", f"--workdir={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "table.json").read_text())
    for row in summary["readings"]:
        assert row["accuracy"]["mean"] > 0.9
        assert 0.3 < row["test"]["mean"] < row["accuracy"]["mean"] + 0.05
    assert all((tmp_path / "run" / name).exists() for name in FIGURES)
