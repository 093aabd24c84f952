"""Is robustness the datapoint's own: stages that resume, and what known numbers give."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from experiments.datapoints.inherent import __main__ as inherent
from experiments.datapoints.inherent import findings, models, plan
from experiments.datapoints.inherent.models import Measured, Scheme
from rbjax import data, prng, rpr

TINY = plan.Plan(
    num_test=40,
    repetitions=2,
    max_steps=8,
    num_resamples=49,
    num_epochs=1,
    max_train_examples=320,
    num_trees=5,
    num_seeds=2,
    dataset="digits",
)
FAMILIES = ("mlp", "extra_trees")
MAX_STEPS = 50


@pytest.fixture(scope="module")
def scored():
    """The models that each call of the experiment scored."""
    return []


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, scored):
    """A finished experiment of two families that was killed, and begun a third time."""
    folder = tmp_path_factory.mktemp("runs") / "inherent"
    score = rpr.score_repeatedly

    def scoring(*arguments, **options):
        if len(scored) == 1 and len(scored[0]) == 3:
            raise KeyboardInterrupt
        scored[-1].append(arguments[0])
        return score(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.SCALES, "tiny", TINY)
        patch.setattr(models, "FAMILIES", FAMILIES)
        patch.setattr(inherent, "FAMILIES", FAMILIES)
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
        patch.setattr(rpr, "score_repeatedly", scoring)
        for _ in range(3):
            scored.append([])
            try:
                assert inherent.main(["--scale=tiny", f"--workdir={folder}"]) == 0
            except KeyboardInterrupt:
                assert len(scored) == 1
        yield folder


def test_nothing_is_scored_twice(workdir, scored):
    """Three models, killed at the fourth; that one; nothing."""
    assert [len(call) for call in scored] == [3, 1, 0]
    assert not list(workdir.rglob("*.journal"))


def test_all_is_written(workdir):
    assert (workdir / "inherent.png").stat().st_size > 10_000
    found = json.loads((workdir / "inherent.json").read_text())
    assert found["sentence"] in (workdir / "inherent.txt").read_text()
    assert (found["num_datapoints"], found["num_families"], found["num_seeds"]) == (40, 2, 2)
    assert np.shape(found["correlations"]) == (4, 4)
    assert sum(cell["value"] for cell in found["shares"].values()) == pytest.approx(1)
    assert found["seconds"] > 0


def test_scores_are_those_of_a_plain_call_with_the_same_draws_for_all(workdir):
    test = data.load("digits", "test").take(np.arange(40))
    lab = models.Lab(workdir, TINY, Scheme())
    for family in FAMILIES:
        model = models._logits_fn(lab, family, seed=1)
        expected = rpr.score_repeatedly(
            model,
            prng.named(jax.random.key(0), "rpr"),
            test.images,
            test.labels,
            repetitions=2,
            max_steps=8,
            perturbation=Scheme("binary", 36).perturbation((16, 16, 1)),
            example_ids=test.example_ids,
        )
        with np.load(workdir / "scores" / f"{family}-seed1.npz") as kept:
            np.testing.assert_array_equal(kept["first_failure"], expected.first_failure)
            np.testing.assert_array_equal(kept["clean_correct"], expected.clean_correct)
            np.testing.assert_array_equal(kept["example_ids"], test.example_ids)


def test_seeds_give_other_models(workdir):
    for family in FAMILIES:
        scores = []
        for seed in range(2):
            with np.load(workdir / "scores" / f"{family}-seed{seed}.npz") as kept:
                scores.append(kept["first_failure"])
        assert not np.array_equal(*scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale=huge"], "scale 'huge'"),
        (["--values=ternary"], "values 'ternary'"),
        (["--pixels=300"], "max_pixels is 300; an image has 256 pixels"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path, capsys, arguments, message):
    folder = tmp_path / "inherent"
    assert inherent.main([*arguments, f"--workdir={folder}"]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not folder.exists()


def test_a_folder_belongs_to_one_scheme(tmp_path):
    models.open_lab(tmp_path / "a", TINY, Scheme())
    models.open_lab(tmp_path / "a", TINY, Scheme())
    with pytest.raises(ValueError, match="scheme"):
        models.open_lab(tmp_path / "a", TINY, Scheme("uniform"))


def measured(datapoint: float, model: float) -> Measured:
    """Draws of 4 x 3 models on 300 datapoints; log10 p varies with both as told, in decades."""
    rng = np.random.default_rng(0)
    log_p = -1.5 + datapoint * rng.normal(size=(1, 1, 300, 1))
    log_p = log_p + model * rng.normal(size=(4, 3, 300, 1))
    first_failure = rng.geometric(np.clip(10**log_p, 1e-9, 1), (4, 3, 300, 8))
    return Measured(np.minimum(first_failure, MAX_STEPS + 1), np.ones((4, 3, 300), bool), 1.0)


@pytest.mark.parametrize(
    ("datapoint", "model", "expected"),
    [(1.0, 0.1, "mostly"), (0.6, 0.6, "partly"), (0.1, 0.6, "hardly")],
)
def test_the_sentence_says_what_was_planted(datapoint, model, expected):
    found = findings.find(measured(datapoint, model), MAX_STEPS, num_resamples=99)
    said = findings.sentence(found)
    assert said.startswith(f"Robustness is {expected} a property of the datapoint")
    assert f"{found['shares']['datapoint']['value']:.0%}" in said
    assert f"{found['between']['value']:.2f}" in said
    assert "300 images, 4 families of 3 seeds" in said


def test_draws_in_common_make_models_alike():
    """Models that fail at the same draws, by chance alone, agree fully until they get others."""
    rng = np.random.default_rng(0)
    shared = np.minimum(rng.geometric(0.1, (1, 1, 400, 6)), MAX_STEPS + 1)
    same = Measured(np.broadcast_to(shared, (2, 2, 400, 6)), np.ones((2, 2, 400), bool), 1.0)
    found = findings.find(same, MAX_STEPS, num_resamples=9)["other_draws"]
    assert found["same_within"] == pytest.approx(1)
    assert found["same_between"] == pytest.approx(1)
    assert abs(found["other_within"]) < 0.15
    assert abs(found["other_between"]) < 0.15
    once = Measured(same.first_failure[..., :1], same.clean_correct, 1.0)
    found = findings.find(once, MAX_STEPS, num_resamples=9)
    assert np.isnan(found["other_draws"]["same_within"])
    assert "rank correlation of halves of the repetitions: - within" in findings.table(
        found, ("a", "b")
    )


def test_cuts_are_told():
    told = plan.cuts(plan.SCALES["cpu"])
    assert "test images scored: 1000 in place of all" in told
    assert "epochs: 3 in place of the config's" in told
    assert plan.cuts(plan.SCALES["paper"]) == []
