"""P4's experiment: a smoke run that resumes, and sentences that follow made-up numbers."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.datapoints import __main__ as program
from experiments.datapoints import cells, conclusions, measures, plan, records, table
from experiments.datapoints.readings import READINGS
from rbjax import data, models, rpr, train
from rbjax.command_line import resolve

SCHEME, OTHER = "exactly-distinct-inverted", "at_most-distinct-uniform"
LABELS = np.repeat(np.arange(10), 20)
TINY = plan.CPU._replace(seeds=3, retrained=(SCHEME,), models=("base", "tanh"))
STEPS = 250
RADII = [str(radius) for radius in plan.RADII]


def packed(ratio, seed, shares=None):
    """First failures of which a share is beyond the last draw, of all or of each class."""
    generator, failures = np.random.default_rng(seed), np.full(len(LABELS), 7)
    for label in range(10):
        rows = np.flatnonzero(label == LABELS)
        number = round(20 * (shares or {}).get(label, ratio))
        failures[generator.permutation(rows)[:number]] = STEPS + 1
    return records.pack(records.Scored(failures, np.ones(len(LABELS), bool), LABELS, STEPS))


def trained(accuracy, seed=0, updates=1872):
    right = np.random.default_rng(seed).permutation(1000) < 1000 * accuracy
    about = {"images": 60000, "epochs": 4, "updates": updates, "accuracy": float(right.mean())}
    return {**about, "tested": 1000, "rows": records.pack_flags(right)}


def base(test=0.3, train=0.7, accuracy=0.99, seed=0):
    """A result of `cells.read` under one scheme."""
    return {
        "M": trained(accuracy),
        "max_steps": STEPS,
        "labels": dict.fromkeys(("test", "train"), records.pack_labels(LABELS)),
        "test": {SCHEME: packed(test, seed)},
        "train": {SCHEME: packed(train, seed)},
    }


def retrained(seed=0, shares=None, accuracy=0.99, **ratios):
    """A result of `cells.retrain`; ratios are M's, robust's and so on, for both budgets."""
    ratios = {"M": 0.5, "robust": 0.7, "random": 0.5, "balanced": 0.5, **ratios}
    names = ["M", *(f"{kind}-{budget}" for kind in cells.KINDS for budget in cells.BUDGETS)]
    updates = {name: 300 if "epochs" in name else 1872 for name in names}
    test = {name: packed(ratios.get(name, ratios[name.split("-")[0]]), seed) for name in names}
    return {
        "max_steps": STEPS,
        "labels": dict.fromkeys(("test", "train"), records.pack_labels(LABELS)),
        "models": {
            name: trained(accuracy if name == "M" else 0.96, updates=updates[name])
            for name in names
        },
        "train": {"M": packed(0.5, seed, shares)},
        "test": test,
        "fooling": None,
        "class_counts": [10] * 10,
        "available": [12] * 10,
    }


def bench(failures, accuracy=0.99):
    """A result of `cells.prbench`, with the same failures of 100 draws at each radius."""
    counts = np.broadcast_to(failures, LABELS.shape).tolist()
    return {
        "net": trained(accuracy),
        "num_draws": 100,
        "labels": {"test": records.pack_labels(LABELS)},
        "failures": dict.fromkeys(("truncated", "clipped"), dict.fromkeys(RADII, counts)),
        "clean": records.pack_flags(LABELS < 9),
    }


def said(results, scale=TINY, *, unbalanced=False):
    return " ".join(conclusions.conclude(results, scale, unbalanced=unbalanced))


def bases(**options):
    return {plan.read_name("base", seed): base(seed=seed, **options) for seed in range(3)}


def retrainings(**options):
    return {plan.retrain_name(SCHEME, seed): retrained(seed, **options) for seed in range(3)}


def test_whether_a_reading_gives_the_paper_s_ratios_is_said_by_its_intervals():
    near = said(bases(test=0.3, train=0.7))
    assert "test 0.3000 (" in near
    assert "Both of the paper's ratios lie inside." in near
    assert "the interval of 1 of 1 reaches it" in near
    assert "So read, it is farther" in near  # 0.7043 is not withstood
    far = said(bases(test=0.7, train=0.7))
    assert "test 0.7000 (" in far
    assert "The paper's test ratio lies outside." in far
    assert "no interval of 1 reaches it, so none of these readings gives both numbers" in far
    assert "So read, the paper is nearer to what is measured" in far
    assert "The paper's test ratio and train ratio lie outside." in said(bases(test=0.9, train=0.1))


def test_missing_seeds_leave_it_open():
    """Two that agree on 0.2 more are not enough where three are due."""
    one = said({plan.read_name("base", 0): base()})
    assert "Whether the paper's ratios lie inside is open. (1 of 3 seeds are run.)" in one
    assert "no reading has all its seeds, so this is open" in one
    assert "no interval). Open." in one
    two = retrainings(shares={7: 0.9, 1: 0.1, 8: 0.1, 9: 0.1})
    del two[plan.retrain_name(SCHEME, 2)]
    text = said(two)
    assert text.count("not to be told apart in robustness from M, +0.2000 (") == 2
    assert "(2 of 3 seeds are run.)" in text
    assert "1, 8, 9, is open with" in text
    assert "is more robust than M, +0.2000" in said(two, scale=TINY._replace(seeds=2))


def test_seeds_that_disagree_leave_it_open():
    results = bases()
    for seed, ratio in enumerate((0.1, 0.5, 0.9)):
        results[plan.read_name("base", seed)] = base(test=ratio, train=ratio, seed=seed)
    row = measures.rows(results, TINY)[0]
    assert row.test.value == pytest.approx(0.5)
    assert row.test.high - row.test.low > 1.5
    assert "Both of the paper's ratios lie inside." in said(results)


def test_what_retraining_does_is_said_by_its_intervals():
    up = said(retrainings())
    assert "equal updates (1,872, 1,872, 1,872 updates, M's 1,872): M_R" in up
    assert "equal epochs (300, 300, 300 updates, M's 1,872)" in up
    assert up.count("is more robust than M, +0.2000 (") == 2
    assert up.count("more robust than M_C, as many at random, +0.2000 (") == 2
    assert up.count("Its accuracy is below M's, -0.0300") == 2
    down = said(retrainings(robust=0.2, random=0.2))
    assert down.count("is less robust than M, -0.3000 (") == 2
    assert down.count("not to be told apart in robustness from M_C") == 2
    longer = retrainings(**{"balanced-epochs": 0.2})
    assert "M_B's images for more updates alone make it more robust: +0.3000" in said(longer)
    assert "alone make it neither more nor less robust" in up
    budgets = said(retrainings(**{"robust-epochs": 0.2}))
    assert "is less robust than M, -0.3000 (" in budgets
    assert "is more robust than M, +0.2000 (" in budgets
    assert "M_R" not in said(retrainings(), unbalanced=True)  # another test's cells


def test_figure_4_s_claim():
    fragile = dict.fromkeys((1, 8, 9), 0.1)
    yes = said(retrainings(shares={7: 0.9, **fragile}))
    assert "1, 8, 9, comes out with" in yes
    assert "+0.8000 (" in yes
    assert "is reversed" in said(retrainings(shares={7: 0.1, 1: 0.9, 8: 0.9, 9: 0.9}))
    assert "1, 8, 9, is open" in said(retrainings())
    found = measures.figure4(list(retrainings(shares={7: 0.9, 1: 0.9, 8: 0.1, 9: 0.1}).values()))
    assert found["together"].value == pytest.approx(0.9 - 1.1 / 3)
    assert found["1"].p_value == 1
    assert found["8"].p_value < 0.01


def test_prbench_s_row():
    """Of 180 images that are correct as they are, two fail in every draw."""
    text = said({plan.PRBENCH: bench(np.where(np.arange(200) % 100, 0, 100))})
    assert "PR(0.03) 0.9889 (0.96" in text
    assert "level with PRBench's 0.9920, -0.0031" in text
    assert "above PRBench's 0.8345, +0.1544" in text
    assert "below PRBench's 0.9920" in said({plan.PRBENCH: bench(50)})


def test_networks_below_the_floor_are_named_and_enter_nothing():
    results = {**bases(accuracy=0.97), **retrainings(), plan.PRBENCH: bench(1, accuracy=0.5)}
    text = said(results)
    below = ", ".join(f"read.base.{seed} (97.00%)" for seed in range(3))
    assert f"in no conclusion: {below}, prbench.standard.0 (50.00%)." in text
    assert "comes nearest" not in text
    assert "PR(" not in text
    assert "M_R" in text
    assert "comes nearest" not in table.report(results, scale=TINY)
    assert said({}) == "Nothing is finished that anything follows from."


def test_the_table_sets_published_numbers_beside_ours():
    results = {**bases(), **retrainings(), plan.PRBENCH: bench(1)}
    results[plan.read_name("tanh", 0)] = base(test=0.9, train=0.9)
    text = table.report(results, scale=TINY)
    lines = text.splitlines()
    assert any(line.startswith("| accuracy of M | 0.9885 | 0.9900") for line in lines)
    assert "| PRBench, PR(0.12), clipped noise | 0.8345 | 0.9900 (" in text
    assert "| +0.1555 |" in text
    readings = [line for line in lines if line.startswith(f"| {SCHEME} |")]
    assert [line.split(" | ")[1] for line in readings] == ["base", "tanh"]
    assert "| M_R, equal updates | 60,000 | 4 | 1,872 | 0.9600 ± 0.0000 | 0.7000 ± 0.0000 |" in text
    assert any(line.startswith("| M_R - M_C | epochs | +0.2000 (") for line in lines)
    assert "- not run yet: read.tanh.1, read.tanh.2" in text
    assert "- seeds: 3 in place of 5" in text
    assert sum(line.startswith("| ProbAcc(0.01)") for line in lines) == 4
    assert "| ProbAcc(0.01) at 0.1 | 0.0000 (" in text
    assert "| ProbAcc(0.05) at 0.1 | 1.0000 (" in text


def test_the_distance_of_a_reading_from_both_ratios():
    row = measures.rows(bases(test=0.4, train=0.6), TINY)[0]
    test, train = 0.4 - 0.2957, 0.6 - 0.7128
    expected = np.sqrt((test**2 + train**2) / 2)
    assert row.distance["printed"].value == pytest.approx(expected)
    # Two independent ratios of 200 images: the gradient of d is (x, y) / 2 d.
    variance = (test**2 + train**2) * 0.24 / 200 / (4 * expected**2)
    half = row.distance["printed"].high - row.distance["printed"].value
    assert half == pytest.approx(1.96 * np.sqrt(variance), rel=0.6)


@pytest.mark.parametrize("name", plan.SCALES)
def test_every_cell_of_every_scale_is_a_config(name):
    made = plan.grid(plan.SCALES[name])
    names = {cell.name for cell in made}
    assert len(names) == len(made)
    own = {cell.name for cell in plan.grid(plan.SCALES[name], unbalanced=True)} - names
    assert all(other.startswith("unbalanced") for other in own)
    for cell in made:
        if cell.name.endswith(".0"):  # others differ in their seeds
            resolve(cell.config, cell.name)
        for scheme in cell.options.get("schemes", []):
            READINGS[scheme].perturbation()
    assert plan.CPU.max_steps == plan.PAPER.max_steps == 250
    assert plan.CPU.floor >= 0.98


def test_readings_of_the_network_differ_in_what_they_say():
    """On the weights of rbjax's own simple CNN, of which they are variants."""
    shape = {"num_classes": 10, "image_shape": (12, 12, 1), "mean": (0.0,), "std": (1.0,)}
    images = jax.random.uniform(jax.random.key(0), (2, 12, 12, 1))
    own = models.create("simple_cnn", widths=(4, 4), **shape)
    variables = own.init(jax.random.key(1), images)

    def read(**options):
        return models.create(f"{plan.NETWORKS}:ReadCNN", widths=(4, 4), **options, **shape)

    np.testing.assert_allclose(read().apply(variables, images), own.apply(variables, images))
    scaled = read(scale=255.0).apply(variables, images)
    np.testing.assert_allclose(scaled, own.apply(variables, 255 * images), rtol=1e-4)
    linear, tanh = (read(activation=name) for name in ("linear", "tanh"))
    flat = jax.tree.map(jnp.abs, variables)  # of positive weights ReLU and no activation agree
    np.testing.assert_allclose(linear.apply(flat, images), own.apply(flat, images), rtol=1e-5)
    assert not np.allclose(linear.apply(variables, images), own.apply(variables, images))
    assert np.abs(tanh.features(variables, 1e3 * images)).max() <= 1
    bench = models.create(f"{plan.NETWORKS}:MNISTNet", **{**shape, "image_shape": (28, 28, 1)})
    made = jax.eval_shape(bench.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) == 1_199_882  # as Keras's mnist_cnn


@pytest.mark.parametrize("name", ["at_most-permuted", "exactly-permuted"])
def test_permuted_pixels_are_the_same_in_other_places(name):
    """All are different, so that it shows which moved: as many as were chosen, in one cycle."""
    image = jnp.arange(18 * 3.0).reshape(3, 6, 3)  # 4 pixels at most
    keys = jax.random.split(jax.random.key(1), 2000)
    perturbation = READINGS[name].perturbation()
    images = np.asarray(jax.jit(jax.vmap(lambda key: perturbation(key, image)))(keys))
    pixels = images.reshape(2000, 18, 3)
    assert np.all(pixels - pixels[..., :1] == np.arange(3))
    source = (pixels[..., 0] / 3).astype(int)
    assert np.all(np.sort(source, axis=1) == np.arange(18))
    moved = source != np.arange(18)
    number = moved.sum(axis=1)
    counts = np.bincount(number, minlength=5) / 2000
    expected = np.array([0, 0, 0, 0, 1] if name[:7] == "exactly" else [0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert np.all(np.abs(counts - expected) <= 5 * np.sqrt(expected * (1 - expected) / 2000))
    start = here = np.argmax(moved, axis=1)
    for step in range(1, 5):
        here = source[np.arange(2000), here]
        assert np.all((here == start)[number >= step] == (number == step)[number >= step])
    share = moved.mean(axis=0)
    assert np.all(np.abs(share - share.mean()) < 5 * np.sqrt(share.mean() / 2000))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A smoke run whose retraining test was stopped before its last scores, and begun again."""
    workdir, score, calls = tmp_path_factory.mktemp("runs") / "datapoints", rpr.score, []

    def scoring(*arguments, **options):
        calls.append(options["journal"])
        if len(calls) == 4:
            raise RuntimeError("stopped")
        return score(*arguments, **options)

    scale = plan.SMOKE._replace(models=("base",), schemes=(OTHER,), base_schemes=(OTHER,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.SCALES, "tiny", scale)
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
        patch.setattr(train, "STEPS_PER_DISPATCH", 1)  # one program of a training, not two
        patch.setattr(rpr, "score", scoring)
        codes = [program.main(["--scale=tiny", f"--workdir={workdir}"]) for _ in range(2)]
    return workdir, scale, codes


@pytest.mark.full_size
def test_a_smoke_run_resumes_and_writes_all(finished, capsys):
    workdir, scale, codes = finished
    assert codes == [1, 0]
    names = [cell.name for cell in plan.grid(scale)]
    assert sorted(path.stem for path in (workdir / "results").glob("*.json")) == sorted(names)
    for number in range(1, 6):
        assert (workdir / "results" / f"figure{number}.png").stat().st_size > 500
    text = (workdir / "results" / "table.md").read_text()
    assert "--scale=tiny" in text
    assert "### Conclusions" in text
    assert "equal updates" in text
    page = (workdir / "results" / "report.html").read_text("utf-8")
    assert '<h2 id="part0-conclusions">' in page
    assert page.count("<figure>") == 5


@pytest.mark.full_size
def test_what_a_cell_stores_is_what_scoring_gives(finished):
    workdir, scale, _ = finished
    result = json.loads((workdir / "results" / f"retrain.{OTHER}.0.json").read_text())["result"]
    pool = data.load("digits", "train").take(np.arange(scale.num_train))
    scored = records.unpack(result, "train", "M")
    np.testing.assert_array_equal(scored.labels, pool.labels)
    np.testing.assert_array_equal(
        np.bincount(pool.labels[scored.robust], minlength=10), result["available"]
    )
    assert set(result["class_counts"]) == {min(result["available"])}
    models, kept = result["models"], sum(result["class_counts"])
    for kind in cells.KINDS:
        ids = np.load(workdir / f"retrain.{OTHER}.0" / f"{kind}.npz")["example_ids"]
        rows = np.isin(pool.example_ids, ids)
        assert rows.sum() == models[f"{kind}-updates"]["images"] == kept
        counts = np.bincount(pool.labels[rows], minlength=10)
        assert (len(set(counts)) == 1) == (kind != "random")
        assert scored.robust[rows].all() == (kind == "robust")
        assert abs(models[f"{kind}-updates"]["updates"] - models["M"]["updates"]) <= kept // 128 + 1
        assert models[f"{kind}-epochs"]["epochs"] == models["M"]["epochs"]
    robust = [records.unpack(result, "test", name).ratio for name in models]
    assert len(set(robust)) > 1


def test_unknown_scales_are_named(capsys):
    assert program.main(["--scale=papre"]) == 2
    assert "did you mean 'paper'" in capsys.readouterr().err
