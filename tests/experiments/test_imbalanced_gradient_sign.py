"""P5's grid on digits, what it selects, and the words that follow from made-up tables."""

import json

import jax
import numpy as np
import pytest

from configs import standard_cifar10
from experiments.imbalanced_gradient_sign import (
    __main__ as program,
)
from experiments.imbalanced_gradient_sign import (
    compare,
    conclude,
    measure,
    plan,
    results,
    stored,
    table,
)
from rbjax import sweep, train
from rbjax.command_line import resolve
from rbjax.training import setup

TINY = plan.SMOKE._replace(classes=1)
NAMES = list(compare.EXPECTED["table1"])
ALL = plan.SMOKE._replace(classes=10, seeds=1, matched_seeds=2)


# ---------------------------------------------------------------- what is trained


def test_the_paper_and_its_code_are_two_configs():
    paper, code = (standard_cifar10.get_config(variant) for variant in ("", "as_published"))
    assert (paper.model.activation, paper.optimizer.decay) == ("paper", 1e-5)
    assert (code.model.activation, code.optimizer.decay) == ("author", 1e-6)
    assert (code.dataset.validation_from, code.dataset.flip_horizontal) == ("test", True)
    assert code.model.normalize is False
    cells = {cell.name: cell.config for cell in plan.cells(ALL, as_published=True)}
    assert len(cells) == 21
    assert cells["published.balanced.0"].dataset.flip_horizontal
    other = cells["published.under.3.0"].dataset
    assert not other.flip_horizontal
    assert (other.validation_from, other.validation_fraction) == ("last", 0.2)


def test_a_table_has_fifty_combinations():
    cells = [cell for cell in plan.cells(ALL) if cell.name.startswith("written")]
    assert len(cells) == 21
    assert sum(len(c.options["attacked"]) * (1 + ("source" in c.options)) for c in cells) == 50


@pytest.mark.parametrize("kind", ["balanced", "under", "over", *map(plan.degree, plan.DEGREES)])
def test_without_confounds_all_have_as_many_images(kind):
    counts = plan.counts(10, 4500, kind, 3, matched=True)
    assert counts.sum() == 4500 + 9 * 900
    others = np.delete(counts, 3)
    ratio = {"balanced": 1, "under": 1 / 5, "over": 5}.get(kind)
    ratio = float(kind[1:].replace("_", ".")) if ratio is None else ratio
    assert counts[3] / others.mean() == pytest.approx(ratio, rel=0.05)
    written = plan.counts(10, 4500, kind, 3, matched=False) if kind in ("under", "over") else None
    if written is not None:
        assert (written[3], written[0]) == {"under": (900, 4500), "over": (4500, 900)}[kind]


def test_tails_are_each_others_reverse():
    one, other = (plan.tail(10, 4500, 1, is_reversed=flag) for flag in (False, True))
    assert one.sum() == other.sum() == 4500 + 9 * 900
    assert one.max() / one.min() == pytest.approx(plan.TAIL_RATIO, rel=0.02)
    np.testing.assert_array_equal(np.argsort(one), np.argsort(-other))
    assert list(one) != list(plan.tail(10, 4500, 2, is_reversed=False))


def test_images_are_chosen_by_stored_order():
    generator = np.random.default_rng(0)
    index, by_order = generator.permutation(100), generator.permutation(np.repeat(range(10), 10))
    labels = by_order[index]
    assert list(stored.rows(labels, index, stored="balanced", target=None, each=5)) == sorted(
        np.flatnonzero([np.sum(by_order[:i] == by_order[i]) < 5 for i in index])
    )
    under = stored.rows(labels, index, stored="under", target=3, each=10)
    np.testing.assert_array_equal(
        np.sort(index[under][labels[under] == 3]), np.flatnonzero(by_order == 3)[-2:]
    )
    assert len(under) == 92
    over = stored.rows(labels, index, stored="over", target=3, each=10)
    np.testing.assert_array_equal(
        np.sort(index[over][labels[over] != 3]), np.flatnonzero(by_order != 3)[-18:]
    )
    assert np.sum(labels[over] == 3) == 10
    original = np.array(stored.FIRST_LABELS)
    assert stored.is_original(original[::-1], np.arange(10)[::-1])
    assert not stored.is_original(original[::-1], np.arange(10))


def test_the_codes_loss_climbs_as_cross_entropy_does():
    logits, labels = jax.random.normal(jax.random.key(0), (6, 4)), jax.numpy.arange(6) % 4
    found = jax.grad(lambda z: measure.published_loss(z, labels).sum())(logits)
    share = jax.nn.softmax(logits)
    usual = share - jax.nn.one_hot(labels, 4)
    own = share[jax.numpy.arange(6), labels][:, None]
    np.testing.assert_allclose(found, own * usual, atol=1e-6)


@pytest.mark.parametrize("as_published", [False, True])
def test_networks_get_the_images_that_are_selected(as_published, tmp_path):
    for cell in plan.cells(TINY._replace(matched_seeds=0), as_published=as_published):
        kind = cell.name.split(".")[1]
        config = cell.config.copy_and_resolve_references()
        workdir = str(tmp_path / cell.name)
        config.dataset.subset = measure.write_subset(config, workdir, cell.options["select"])
        resolved = resolve(config, workdir)
        train_set, validation_set = setup.load_train(resolved)
        assert validation_set is not None
        if not as_published:
            expected = [12 if (kind, c) in UNDER or (kind, c) in OVER else 60 for c in range(10)]
            assert list(train_set.class_counts) == expected
        elif kind == "balanced":
            assert list(train_set.class_counts) == [60] * 10
            assert validation_set.num_examples == setup.load(resolved, "test").num_examples
        else:
            assert train_set.index.max() < validation_set.index.min()
            every = train_set.class_counts + validation_set.class_counts
            assert every[0] == (12 if kind == "under" else 60)
            assert every[1:].sum() == (540 if kind == "under" else 108)
        if "source" in cell.options:
            said = cell.options["source"]["config"]
            again = resolve(sweep.config_of(json.loads(json.dumps(said))), workdir)
            assert again.num_epochs == resolved.num_epochs
            assert again.model.to_dict() == resolved.model.to_dict()


UNDER = {("under", 0)}
OVER = {("over", c) for c in range(1, 10)}


# ---------------------------------------------------------------- the program


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The written grid of one class, and the folder of its results."""
    workdir = tmp_path_factory.mktemp("sign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plan.SCALES, "tiny", TINY)
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
        patch.setattr(train, "STEPS_PER_DISPATCH", 1)  # one program of a training, not two
        command = ["--scale=tiny", f"--workdir={workdir}"]
        # An over-sampled class's network goes the way of an under-sampled one's.
        for only in ("written.balanced", "written.under", "written.under"):  # nothing is left to do
            assert program.main([*command, f"--only={only}"]) == 0
    return workdir / "results"


@pytest.mark.full_size
def test_a_cell_is_enough_for_tables_and_figures(finished):
    files = sorted(file.name for file in finished.glob("*.json"))
    assert files == ["written.balanced.0.json", "written.under.0.0.json"]
    text = (finished / "table.md").read_text()
    assert "#### Table 1" in text
    assert "- missing: under-sampled" in text
    assert '<h2 id="part0-conclusion">' in (finished / "report.html").read_text("utf-8")
    pictures = {file.name for file in finished.glob("*.png")}
    assert {f"written_figure{number}.png" for number in (1, 2, 4, 5, 6)} <= pictures
    result = json.loads((finished / "written.under.0.0.json").read_text())["result"]
    counts = result["train_count"]
    assert (counts[0], set(counts[1:])) == (12, {60})
    labels = ("clean", "fast_ascent", "transfer_iterative_descent", "projected", "epsilon_0.02")
    for label in labels:
        assert sum(result["attacked"][label]["0"]) == TINY.test
    assert sum(result["attacked"]["pgd20"]["0"]) == TINY.strong
    # A score above 0 is an image that is classified as the class.
    own, right = np.asarray(result["scores"]["0"]["own"]), result["attacked"]["clean"]["0"][0]
    assert own[measure.EDGES[:-1] >= 0].sum() == right
    assert (finished / "written.balanced.0.json").stat().st_size < 40_000


# ---------------------------------------------------------------- the words


def made_up(shares, scale=ALL, *, seeds=None, clean=0.8):
    """Returns a grid in which a kind of network has these accuracies, clean and attacked.

    Args:
        shares: kind -> (clean, attacked, attacked by transfer).
        scale: of the grid.
        seeds: those whose balanced network is trained; None: all.
        clean: mean of the classes' accuracies on the test set.
    """
    found = {}
    for number, cell in enumerate(plan.cells(scale)):
        kind, seed = cell.name.split(".")[1], int(cell.name.split(".")[-1])
        if kind not in shares:
            continue
        generator = np.random.default_rng(number)
        values = dict(
            zip(("clean", "fast_ascent", "transfer_fast_ascent"), shares[kind], strict=True)
        )
        values |= {"clean_first": values["clean"], "pgd20": values["fast_ascent"]}

        def answers(share, target, generator=generator):
            right = round(1000 * share + generator.normal(0, 5))
            wrong = np.full(10, (1000 - right) // 9)
            wrong[target] = right
            return wrong.tolist()

        level = clean if seeds is None or seed in seeds or kind != "balanced" else 0.1
        found[cell.name] = {
            "train_count": cell.options["select"]["counts"],
            "count": [1000] * 10,
            "clean": (1000 * level * np.eye(10)).tolist(),
            "attacked": {
                label: {str(c): answers(share, c) for c in cell.options["attacked"]}
                for label, share in values.items()
            },
        }
    return found


MADE_UP = {"balanced": (0.8, 0.4, 0.4), "under": (0.5, 0.1, 0.3), "over": (0.9, 0.7, 0.8)}


def claims(shares, variant="written"):
    return conclude.claims(results.grid(made_up(shares), variant, ALL), NAMES)


def test_the_words_follow_from_the_numbers():
    found = claims(MADE_UP)
    assert {name: claim.verdict for name, claim in found.items()} == {
        "under": "holds",
        "over": "holds",
        "transfer": "holds",
        "transfer_over": "holds",
        "pgd20": "holds",
        "autoattack": "is missing",
        "overlap": "holds",
    }
    # 1 - 0.1 / 0.5 = 0.8 of the accuracy is lost, in place of 0.5.
    assert found["under"].found.value == pytest.approx(30, abs=1)
    assert found["over"].found.value == pytest.approx(-28, abs=1)
    assert found["transfer"].found.value == pytest.approx(20, abs=1)
    turned = {**MADE_UP, "under": (0.5, 0.4, 0.3), "over": (0.9, 0.1, 0.05)}
    assert {claims(turned)[name].verdict for name in ("under", "over", "transfer", "pgd20")} == {
        "is reversed"
    }
    alike = {**MADE_UP, "under": (0.8, 0.4, 0.4)}
    assert claims(alike)["under"].verdict == "is open"
    text = "\n".join(conclude.sentences({"written": found, "matched": claims(alike, "matched")}))
    assert "- holds: under-sampled classes lose a larger share" in text
    assert "holds as trained, and is open without confounds: +30" in text
    assert "- is open: under-sampled classes" in text
    again = {"written": found, "matched": claims(MADE_UP, "matched")}
    assert "holds with and without confounds" in "\n".join(conclude.sentences(again))


def test_what_is_not_trained_is_named_and_counts_nowhere():
    every = results.grid(made_up(MADE_UP), "matched", ALL._replace(floors={"balanced": 0.5}))
    assert not every.untrained
    assert len(every.seeds("under", 3)) == 2
    floors = ALL._replace(floors={"balanced": 0.5, "under": 0.0, "over": 0.0})
    some = results.grid(made_up(MADE_UP, seeds=[1]), "matched", floors)
    assert list(some.seeds("under", 3)) == [1]
    assert "matched.balanced.0" in some.untrained
    assert "matched.under.3.0" in some.untrained  # its balanced network is not trained
    text = table.report(made_up(MADE_UP, seeds=[1]), scale=floors)
    assert "Not trained, and in no number below: matched.balanced.0 (10.0)" in text
    low = ALL._replace(floors={"balanced": 0.5, "under": 0.9, "over": 0.0})
    assert not results.grid(made_up(MADE_UP), "matched", low).seeds("under", 3)


def test_long_tails_are_correlated_with_images():
    found = made_up({"balanced": (0.8, 0.4, 0.4)})
    for cell in plan.cells(ALL):
        if ".tail" in cell.name:
            counts = np.array(cell.options["select"]["counts"])
            lost = 0.5 + 0.4 * np.argsort(np.argsort(-counts)) / 9
            clean = {str(c): [800 if j == c else 0 for j in range(10)] for c in range(10)}
            attacked = {
                str(c): [800 - round(800 * lost[c]) if j == c else 0 for j in range(10)]
                for c in range(10)
            }
            for c in range(10):
                attacked[str(c)][(c + 1) % 10] = round(800 * lost[c])
            found[cell.name] = {
                "train_count": counts.tolist(),
                "count": [1000] * 10,
                "clean": (800 * np.eye(10)).tolist(),
                "attacked": {"clean": clean, "fast_ascent": attacked},
            }
    grid = results.grid(found, "matched", ALL)
    own = results.correlations(grid, "fast_ascent")
    assert own.number == 4
    assert own.value < -95
    assert conclude.claims(grid, NAMES)["tail"].verdict == "holds"


def test_readings_name_the_nearest():
    found = made_up(MADE_UP)
    for result in found.values():
        result["attacked"]["projected"] = {
            c: [1000 * (int(c) == j) for j in range(10)] for c in result["attacked"]["clean"]
        }
    grid = results.grid(found, "written", ALL)
    lines = "\n".join(compare.readings(grid, NAMES))
    assert "`fast_ascent`: one step of 0.01 up the loss, clipped to [0, 1], the nearest" in lines
    assert "Nearest of its own table's means: `balanced`, 25.8 %" in lines
    assert "P5's 40 % of cats as dogs. Ours nearest:" in lines
    entry = compare.entry(grid, NAMES, 3, "under", "fast_ascent")
    assert entry is not None
    assert (entry.ours, entry.theirs) == (pytest.approx(10, abs=1.5), 0.5)
    assert entry.low < entry.ours < entry.high
    apart, number = compare.distance(grid, NAMES, "fast_ascent")
    assert number == 50
    assert 10 < apart < 30
    assert "Of another dataset" in "\n".join(compare.readings(grid, list("abcdefghij")))
