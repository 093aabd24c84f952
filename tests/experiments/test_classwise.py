"""P2's grid on digits, its statistics by hand, and the words that follow from made-up tables."""

import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

from experiments.answers import Estimate, packed, stored
from experiments.classwise import __main__ as program
from experiments.classwise import conclude, explain, features, plan, results, table
from experiments.classwise.measure import mean_logit_cosines
from experiments.classwise.plan import ROBUST, STANDARD, Key
from experiments.classwise.results import Network
from rbjax import data, sweep
from rbjax.config import resolve
from rbjax.data.description import Superclasses

CIFAR = plan.CPU._replace(datasets=("cifar10",), seeds={"others": 2})
NAMES = list(data.info("cifar10").class_names)
EACH = 100
LABELS = np.repeat(np.arange(10), EACH)


stats: Any = scipy_stats

# ---------------------------------------------------------------- what is trained


@pytest.mark.parametrize("scale", plan.SCALES.values(), ids=plan.SCALES)
def test_every_cell_is_a_training_that_resolves(scale):
    cells = plan.cells(scale)
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        config = resolve(cell.config.to_dict())
        if config.method.name != STANDARD:
            assert config.method.epsilon == max(cell.options["radii"].values())
        if source := cell.options.get("source"):
            theirs = resolve(sweep.config_of(json.loads(json.dumps(source["config"]))).to_dict())
            assert theirs == resolve(
                next(c for c in cells if c.name == source["name"]).config.to_dict()
            )
    groups = {cell.name.split(".")[0] for cell in cells}
    assert groups == {"datasets", "networks", "optimizers", "remedies", "features"}


def test_optimizers_and_remedies_are_what_they_are_called():
    cells = {cell.name: resolve(cell.config.to_dict()) for cell in plan.cells(plan.CPU)}
    step, cyclic = (cells[f"optimizers.sgd_{name}.pgd.0"] for name in ("step", "cyclic"))
    assert step.schedule.milestones == (4, 6)
    assert (step.schedule.name, cyclic.schedule.name) == ("step", "triangular")
    decays = {name: cells[f"optimizers.sgd_{name}.pgd.0"].optimizer.weight_decay for name in DECAYS}
    assert decays == DECAYS
    epsilons = cells["remedies.cifar10.critical_epsilon.0"].method.class_epsilons
    assert [e / plan.epsilon(plan.CPU, "cifar10") for e in epsilons] == [1, 1, 1, 1.5, *[1] * 6]
    assert cells["remedies.cifar10.critical_4.0"].method.critical_weight == 4
    assert cells["remedies.cifar10.weighted.0"].method.reweighting == 1
    assert cells["remedies.cifar10.similarity.0"].method.reweighting == 0


DECAYS = {"step": 5e-4, "no_decay": 0.0, "more_decay": 5e-3}


# ---------------------------------------------------------------- statistics by hand


def test_the_deviation_of_equal_classes_is_none_and_chance_is_taken_off():
    counts = np.full(10, 50)
    assert results.deviation(np.full(10, 0.5), counts) == 0.0
    recall = np.array([0.2, 0.8])
    expected = np.sqrt(0.18 - 0.16 / 49)
    assert results.deviation(recall, np.array([50, 50])) == pytest.approx(expected)
    # Classes that differ by 10 points beyond chance: 20,000 draws of 50 images, generator 0.
    generator = np.random.default_rng(0)
    truth = np.array([0.4, 0.5, 0.6])
    drawn = generator.binomial(50, truth, (20_000, 3)) / 50
    chance = np.mean(drawn * (1 - drawn) / 49, axis=-1)
    unbiased = np.mean(np.var(drawn, axis=-1, ddof=1) - chance)
    assert unbiased == pytest.approx(0.01, abs=2e-4)  # 5 standard errors are 1.8e-4
    assert results.spread(recall, counts) == pytest.approx(0.6)
    assert results.of_others(0)(np.array([0.9, 0.1, 0.3]), counts) == pytest.approx(0.2)


def test_rank_correlation_is_spearmans_and_its_p_counts_permutations():
    one, other = np.array([0.1, 0.4, 0.2, 0.9, 0.9]), np.array([0.2, 0.3, 0.1, 0.7, 0.8])
    found = explain.rank_correlation(one[None], other[None])
    assert found.value == pytest.approx(stats.spearmanr(one, other).statistic)
    ranks = [stats.rankdata(values) for values in (one, other)]
    every = [np.corrcoef(p, ranks[1])[0, 1] for p in itertools.permutations(ranks[0])]
    upper = np.mean(np.asarray(every) >= found.value - 1e-9)
    assert found.p_value == pytest.approx(2 * upper)
    assert explain.rank_correlation(one[None], np.full((1, 5), 0.3)).p_value == 1.0
    reverse = explain.rank_correlation(np.stack([one, -one]), np.stack([-one, -one]))
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx((-1, 1, 1))


def test_confusions_and_superclasses_by_hand():
    groups = Superclasses(("a", "b"), (0, 0, 1, 1))
    matrix = np.array([[5, 3, 1, 0], [0, 9, 0, 0], [0, 0, 4, 2], [2, 0, 0, 7]])
    share = explain.within_superclass(matrix, groups)
    assert share.count == 8
    assert share.value == pytest.approx(100 * 5 / 8)
    assert share.chance == pytest.approx(100 / 3)
    assert share.low < share.value < share.high
    mutual = np.array([[10, 3, 1, 0], [3, 10, 2, 0], [1, 2, 10, 0], [0, 0, 0, 14]])
    assert explain.symmetry(mutual).value == pytest.approx(1.0)
    result: Any = {"labels": packed(np.array([0, 0, 1])), "clean": packed(np.array([1, -1, 1]))}
    result["count"] = [2, 1]
    np.testing.assert_array_equal(explain.confusion(result, "clean"), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(stored(result, "clean"), [1, -1, 1])


def test_similarity_is_the_cosine_between_mean_logits():
    test = data.load("digits", "test")
    directions = jax.random.normal(jax.random.key(0), (256, 10))

    def logits_fn(images):
        return images.reshape(len(images), -1) @ directions

    found = mean_logit_cosines(logits_fn, test)
    images = np.asarray(test.images[:], np.float64).reshape(len(test.labels), -1) / 255
    means = np.stack([images[test.labels == c].mean(axis=0) for c in range(10)]) @ directions
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found, units @ units.T, atol=1e-5)
    expected = np.sort(found, axis=1)[:, -2]
    np.testing.assert_allclose(explain.nearest_similarity(found), expected, atol=1e-6)


# ---------------------------------------------------------------- robust and non-robust features


def test_matching_features_of_a_linear_map_changes_nothing_else():
    keys = jax.random.split(jax.random.key(1), 3)
    rows = jnp.linalg.qr(jax.random.normal(keys[0], (12, 3)))[0].T  # orthonormal, (3, 12)
    begun, images = (0.5 + 0.05 * jax.random.normal(k, (4, 2, 2, 3)) for k in keys[1:])
    features_fn = jax.tree_util.Partial(lambda x: x.reshape(len(x), -1) @ rows.T)
    options = {"step_size": 0.002, "num_steps": 300}
    moved = features.match_features(features_fn, begun, images, **options).reshape(4, 12)
    kept = begun.reshape(4, 12) @ (jnp.eye(12) - rows.T @ rows)
    expected = kept + images.reshape(4, 12) @ rows.T @ rows
    np.testing.assert_allclose(moved, expected, atol=0.003)  # a step and a half


def test_new_labels_and_starts_say_nothing_of_the_old():
    train = data.load("digits", "train")
    key = jax.random.key(3)
    np.testing.assert_array_equal(features.new_labels(train, "d_det", key), (train.labels + 1) % 10)
    drawn = features.new_labels(train, "d_rand", key)
    table_of_both = np.zeros((10, 10))
    np.add.at(table_of_both, (train.labels, drawn), 1)
    assert stats.chi2_contingency(table_of_both).pvalue > 1e-3
    others = features._others(train.num_examples, key)
    assert sorted(others) == list(range(train.num_examples))
    assert not np.any(others == np.arange(train.num_examples))
    pairs = np.zeros((10, 10))
    np.add.at(pairs, (train.labels, train.labels[others]), 1)
    assert stats.chi2_contingency(pairs).pvalue > 1e-3


def test_pushed_images_are_taken_for_their_new_class_and_stay_near():
    train = data.load("digits", "train").take(np.arange(40))
    directions = jax.random.normal(jax.random.key(0), (256, 10))
    logits_fn = jax.tree_util.Partial(lambda w, x: 5 * x.reshape(len(x), -1) @ w, directions)
    labels = features.new_labels(train, "d_det", jax.random.key(0))
    moved = features.push(logits_fn, train, labels, step_size=0.1, num_steps=20)
    before, after = (
        np.asarray(x, np.float32).reshape(40, -1) / 255 for x in (train.images[:], moved)
    )
    assert np.linalg.norm(after - before, axis=1).max() < 0.5 + 0.02  # rounded to 256 levels
    gain = np.asarray(logits_fn(after) - logits_fn(before))
    margins = gain[np.arange(40), labels] - np.delete(gain, 0, axis=1).mean(axis=1)
    assert margins.min() > 0


# ---------------------------------------------------------------- words of made-up tables


def made_up(accuracies: dict[str, np.ndarray], seed: int = 0) -> dict:
    """A cell's result with so many right of each class, by label; wrong ones are the next class."""
    result = {
        "count": [EACH] * 10,
        "train_count": [900] * 10,
        "class_names": NAMES,
        "labels": packed(LABELS),
        "similarity": np.eye(10).tolist(),
        "trends": {"clean": [[0.1] * 10] * 8, "robust": [np.arange(10) / 10] * 8},
        "corruptions": {"class_accuracy": {"fog": np.linspace(0.2, 0.6, 10)}},
    }
    generator = np.random.default_rng(seed)
    for label, recall in accuracies.items():
        answers = LABELS.copy()
        for c, share in enumerate(recall):
            rows = generator.permutation(np.flatnonzero(c == LABELS))[round(share * EACH) :]
            answers[rows] = (c + 1) % 10
        result[label] = packed(answers)
    return result


def attacked(clean, under):
    return {"clean": clean, **dict.fromkeys(plan.SHARES, under)}


def cells(standard: np.ndarray, robust: np.ndarray, **remedies: np.ndarray) -> dict[str, dict]:
    """Two seeds of both networks, as accurate attacked as clean, and remedies."""
    found = {}
    for seed in range(2):
        for name, recall in ((STANDARD, standard), (ROBUST, robust)):
            found[f"datasets.cifar10.{name}.{seed}"] = made_up(attacked(recall, recall), seed)
        for name, recall in remedies.items():
            found[f"remedies.cifar10.{name}.{seed}"] = made_up(attacked(recall, recall), seed)
    return found


EVEN, UNEVEN = np.full(10, 0.7), np.linspace(0.4, 0.95, 10)


@pytest.mark.parametrize(
    ("standard", "robust", "verdict"),
    [(EVEN, UNEVEN, "holds"), (UNEVEN, EVEN, "is reversed"), (UNEVEN, UNEVEN, "is open")],
)
def test_whether_training_widens_differences_follows_from_the_cells(standard, robust, verdict):
    grid = results.grid(cells(standard, robust), CIFAR)
    claims = list(conclude.discrepancy(grid))
    assert {claim.verdict for claim in claims} == {verdict}
    assert len(claims) == 6
    assert (
        f"clean: adversarial training widens it (best class less worst): {verdict} in 1 of 1"
        in ("\n".join(conclude.counted(claims)))
    )
    text = table.report(cells(standard, robust), scale=CIFAR)
    assert f"{verdict}: cifar10, clean: adversarial training widens it" in text


def test_orders_agree_are_reversed_or_are_open():
    verdicts = {}
    shuffled = UNEVEN[[3, 9, 1, 7, 0, 5, 8, 2, 6, 4]]
    for name, other in (("same", UNEVEN), ("reverse", UNEVEN[::-1]), ("other", shuffled)):
        claims = conclude.orders(results.grid(cells(UNEVEN, other), CIFAR))
        verdicts[name] = [claim.verdict for claim in claims]
    # Clean, attacked, and the validation's order over the epochs, which is made up alike.
    assert verdicts["same"] == ["holds"] * 3
    assert verdicts["reverse"] == ["is reversed", "is reversed", "holds"]
    assert verdicts["other"][:2] == ["is open"] * 2


def test_a_claim_is_open_where_chance_or_a_missing_seed_may_turn_it():
    found = {
        "holds": (explain.Rank(0.8, 0.6, 0.9, 0.01, 10), Estimate(2.0, 0.5, 3.5, 3, 3)),
        "is open": (explain.Rank(0.4, 0.1, 0.6, 0.2, 10), Estimate(2.0, 0.5, 3.5, 2, 3)),
        "is missing": (None,),
    }
    for verdict, numbers in found.items():
        assert [conclude.Claim("it is so", number).verdict for number in numbers] == [
            verdict
        ] * len(numbers)


def test_remedies_are_judged_by_what_they_move():
    better = np.maximum(UNEVEN, 0.7)
    favoured = np.where(np.arange(10) == plan.CRITICAL, 0.95, UNEVEN - 0.1)
    found = cells(EVEN, UNEVEN, weighted=better, critical_4=favoured)
    grid = results.grid(found, CIFAR)
    said = {
        claim.says: claim.verdict for claim in (*conclude.remedy(grid), *conclude.critical(grid))
    }
    assert said["weighted raises the worst class, attacked"] == "holds"
    assert said["weighted narrows the spread, attacked"] == "holds"
    assert said["weighted lowers the mean, attacked"] == "is reversed"
    assert said["critical_4 raises cat, attacked"] == "holds"
    assert said["critical_4 lowers the others' mean, clean"] == "holds"


def test_a_network_that_is_not_trained_takes_those_like_it_with_it():
    found = cells(np.full(10, 0.3), UNEVEN, weighted=UNEVEN)
    good = cells(EVEN, UNEVEN, weighted=UNEVEN)
    found |= {name: cell for name, cell in good.items() if name.endswith(".1")}
    grid = results.grid(found, CIFAR)
    assert {key.seed for key in grid.results} == {1}
    apart = ["datasets.cifar10.standard.0", "datasets.cifar10.pgd.0", "remedies.cifar10.weighted.0"]
    assert set(grid.apart) == set(apart)
    text = table.report(found, scale=CIFAR)
    assert "Not trained, and in no number below: datasets.cifar10.standard.0" in text
    assert "No cell is there yet." in table.report({}, scale=CIFAR)


def test_the_standard_network_is_attacked_until_it_is_as_accurate():
    standard = dict(zip(plan.SHARES, (np.full(10, s) for s in (0.6, 0.45, 0.2, 0.0)), strict=True))
    found = {
        "datasets.cifar10.standard.0": made_up({"clean": EVEN, **standard}),
        "datasets.cifar10.pgd.0": made_up(attacked(UNEVEN, np.full(10, 0.4))),
    }
    grid = results.grid(found, CIFAR)
    key = Key("datasets", "cifar10", "simple_cnn", "adam", STANDARD, 0)
    assert results.matched(grid, key, 0.4) == "pgd_4"
    plain, _ = conclude.matched_networks(grid, key, key._replace(method=ROBUST))
    assert plain == Network(key, "pgd_4")
    mean = grid.contrast([(1, plain)], results.mean)
    assert mean is not None
    assert mean.value == pytest.approx(45)


def test_an_interval_holds_what_no_draw_has():
    found = {
        f"datasets.cifar10.{m}.0": made_up(attacked(np.ones(10), EVEN)) for m in (STANDARD, ROBUST)
    }
    text = table.report(found, scale=CIFAR)
    row = next(line for line in text.splitlines() if line.startswith("| airplane "))
    assert row.split(" | ")[1] == "100.0 (96.3 to 100.0)"


# ---------------------------------------------------------------- the program


def test_a_smoke_run_measures_a_cell_once_and_draws(tmp_path, monkeypatch, capsys):
    tiny = plan.SMOKE._replace(optimizers=("adam",), networks={"simple_cnn": {"widths": (2, 4)}})
    tiny = tiny._replace(remedies=("critical_2",), taught=("d_det",))
    monkeypatch.setitem(plan.SCALES, "tiny", tiny)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
    command = ["--scale=tiny", f"--workdir={tmp_path}"]
    assert program.main(command) == 0
    text = (tmp_path / "results" / "table.md").read_text()
    assert "4 of 4 cells" in text
    assert "| d_det | 0." in text
    page = (tmp_path / "results" / "report.html").read_text("utf-8")
    assert '<h2 id="part0-answers">' in page
    assert page.count("<figure>") == 6
    cell = json.loads((tmp_path / "results" / "datasets.digits.pgd.0.json").read_text())["result"]
    assert len(stored(cell, "pgd_8")) == len(stored(cell, "labels")) == sum(cell["count"]) == 60
    assert np.asarray(cell["trends"]["robust"]).shape == (2, 10)
    assert set(cell["corruptions"]["class_accuracy"]) == {"impulse_noise", "translate"}
    drawn = {file.name for file in (tmp_path / "results").glob("*.png")}
    figures = ("figure1", "figure2", "radii", "trends", "confusion")
    assert drawn == {*(f"digits_{name}.png" for name in figures), "remedies.png"}
    capsys.readouterr()
    assert program.main(command) == 0  # nothing is left to do
    assert "begins" not in capsys.readouterr().out
    assert jnp.asarray(cell["similarity"]).shape == (10, 10)
