"""P1's grid on digits, its measures and intervals, and the words that follow from made-up cells."""

import json
import zlib

import jax
import numpy as np
import pytest

from experiments import corrupted
from experiments.rendezvous import __main__ as program
from experiments.rendezvous import conclude, levels, plan, results, table
from experiments.rendezvous.plan import PLAIN, Key
from experiments.rendezvous.results import Place
from rbjax import corruptions, data, metrics, prng
from rbjax.command_line import resolve
from rbjax.data import datasets
from rbjax.training import setup
from tests.data import examples

# ---------------------------------------------------------------- the levels


@pytest.mark.parametrize(("each", "total"), [([500] * 100, 10847), ([2500] * 20, 11514)])
def test_levels_of_equal_size_have_as_many_images_as_the_long_tail(each, total):
    made = {
        shape: levels.as_many(class_counts=np.array(each), shape=shape) for shape in levels.SHAPES
    }
    assert {counts.sum() for counts in made.values()} == {total}
    assert np.ptp(made["balanced"]) <= 1
    plain = levels.levels(np.array(each))["long_tailed"]
    np.testing.assert_array_equal(made["long_tailed"], plain)
    linear = levels.levels(np.array(each))["linear"]
    np.testing.assert_allclose(made["linear"], linear * total / linear.sum(), atol=1)


def test_classes_that_differ_by_nature_keep_their_own_counts():
    """Droughtwatch's are about 60, 15, 15 and 10 %."""
    there = np.array([52000, 13000, 13000, 8317])
    assert plan.levels_of(plan.PAPER, "droughtwatch")[-1] == "long_tailed_equal"
    made = {}
    for level in plan.SOURCES["droughtwatch"].levels:
        fields = levels.profile(level, ratio=100.0, per_class=None)
        name = fields.pop("name")
        made[level] = data.imbalance.create(name, class_counts=there, **fields)
    assert made["natural"].tolist() == there.tolist()
    assert made["balanced"].tolist() == [8317] * 4
    tail = there * 100.0 ** (-np.arange(4) / 3)
    np.testing.assert_allclose(made["long_tailed"], np.floor(tail))
    assert made["linear"].tolist() == [52000, 8710, 4420, 83]
    equal = [made[level].sum() for level in made if level.endswith("_equal")]
    assert equal == [4 * 8317] * 3
    np.testing.assert_allclose(made["long_tailed_equal"] / (4 * 8317), tail / tail.sum(), atol=1e-4)


def test_every_network_is_a_config():
    assert {key.name for key in plan.keys(plan.CPU, "mnist")} >= {
        "mnist.simple_cnn.balanced.none.2",
        "mnist.simple_cnn.long_tailed.universal-ldam_drw.0",
    }
    names = [cell.name for cell in plan.cells(plan.CPU)]
    assert len(set(names)) == len(names)
    every = [(plan.SMOKE, key) for key in plan.keys(plan.SMOKE)]
    every += [(plan.PAPER, key) for key in plan.keys(plan.PAPER) if key.remedy == PLAIN]
    tried = {}
    for scale, key in every:  # a config of each level, and of each method; of each network one
        tried.setdefault((key.dataset, key.level), (scale, key))
        tried.setdefault((key.dataset, key.method), (scale, key))
        tried.setdefault((key.dataset, key.network), (scale, key))
    tried |= {r: (plan.SMOKE, every[0][1]._replace(remedy=r)) for r in plan.CPU.remedies}
    for number, (scale, key) in enumerate(tried.values()):
        config = plan.make_config(scale, key)
        if number:  # all make the same of their corruptions
            config.corruptions.update(name="none", severities=None)
        assert resolve(config, key.name).imbalance.seed == key.seed
    config = plan.make_config(plan.PAPER, Key("cifar100", "resnet50", "linear", "none", PLAIN, 1))
    assert config.dataset.flip_vertical  # P1's; of digits an image's mirror image is another thing
    assert not plan.make_config(plan.CPU, plan.keys(plan.CPU, "mnist")[0]).dataset.flip_vertical
    with pytest.raises(ValueError, match="did you mean 'cifar10"):
        plan.cells(plan.CPU, dataset="mnist,cifar1")


# ---------------------------------------------------------------- measures and intervals

PER_CLASS, CLASSES = 60, 10
SCALE = plan.SMOKE._replace(
    levels={}, seeds={"others": 3}, crossed=("none", "augmix"), remedies=("ldam_drw",), floors={}
)
COUNTS = {
    "balanced": np.full(CLASSES, 100),
    "balanced_equal": np.full(CLASSES, 30),
    "long_tailed": np.arange(100, 0, -10),
    "linear": np.arange(100, 0, -10),
    "linear_equal": np.arange(100, 0, -10),
}


def made_up(recalls, scale=SCALE, *, seeds=(0, 1, 2), attacked=None):
    """Returns results in which a share of each class is right.

    Args:
        recalls: key -> (K,); None: the cell is missing.
        scale: of the grid.
        seeds: that are there.
        attacked: key -> share under corruptions and a universal perturbation; None: 0.5 of all.
    """
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    found = {}
    for key in plan.keys(scale):
        shares = recalls(key)
        if shares is None or key.seed not in seeds:
            continue
        generator = np.random.default_rng(zlib.crc32(key.name.encode()))

        def classes(shares, generator=generator):
            right = np.concatenate(
                [generator.permutation(PER_CLASS) < round(PER_CLASS * s) for s in shares]
            )
            return np.where(right, labels, (labels + 1) % CLASSES).astype(np.uint8)

        share = 0.5 if attacked is None else attacked(key)
        right = 4 * (classes(np.full(CLASSES, share)) == labels)
        found[key.name] = {
            "train_count": COUNTS[key.level].tolist(),
            "count": [PER_CLASS] * CLASSES,
            "labels": labels.astype(np.uint8).tobytes().hex(),
            "clean": classes(shares).tobytes().hex(),
            "universal": classes(np.full(CLASSES, share)).tobytes().hex(),
            "corruptions": {
                "labels": labels.astype(np.uint8).tobytes().hex(),
                "right": right.astype(np.uint8).tobytes().hex(),
                "total": 4,
                "accuracy": {"fog": [share] * 4},
                "profile": "mnist",
            },
        }
    return found


def shares(tail, head=0.9, balanced=0.8):
    """Returns what `made_up` takes: by method, the recall of the tail of a long-tailed level."""

    def recalls(key):
        if key.level.startswith("balanced"):
            return np.full(CLASSES, balanced)
        of_tail = tail.get(key.method, tail["none"])
        return np.where(np.arange(CLASSES) < 7, head, of_tail)

    return recalls


def estimate(own, terms, measure):
    found = own.contrast(terms, measure)
    assert found is not None
    return found


def cohort(found, scale=SCALE):
    (own,) = results.cohorts(found, scale, None)
    return own


def test_measures_are_those_of_the_confusion_matrix():
    found = made_up(shares({"none": 0.4}))
    own = cohort(found)
    key = own.key(Place("long_tailed", "none"), 1)
    labels, classes = (results.stored(found[key.name], name) for name in ("labels", "clean"))
    summary = metrics.summarize(metrics.confusion_matrix(labels, classes, CLASSES))
    for name, theirs in {
        "balanced_accuracy": "balanced_accuracy",
        "macro_f1": "macro_f1",
        "worst_class": "worst_class_accuracy",
        "spread": "class_spread",
    }.items():
        assert own.measures[key][name][0] == pytest.approx(100 * summary[theirs], abs=1e-3)
        assert own.measures[key][name].std() > 0.1
    # Thirds of ten classes: 0 to 3, 4 to 6, 7 to 9.
    assert [own.measures[key][part][0] for part in ("many", "medium", "few")] == [
        pytest.approx(value, abs=1e-3) for value in (90, 90, 40)
    ]
    assert own.measures[key]["gap long_tailed"][0] == pytest.approx(50, abs=1e-3)
    assert own.measures[key]["corruptions"][0] == pytest.approx(50, abs=1e-3)
    assert results.thirds(np.array([1, 9, 5, 5, 2, 3])).tolist() == [2, 0, 0, 1, 2, 1]


def test_intervals_are_paired_and_have_the_error_of_images():
    own = cohort(made_up(shares({"none": 0.4})))
    place = Place("long_tailed", "none")
    assert estimate(own, [(1.0, place), (-1.0, place)], "macro_f1")[:3] == (0, 0, 0)
    # Seeds do not differ; 3 seeds of independent answers: sqrt(p q / n) of each class's share.
    found = estimate(own, [(1.0, place)], "balanced_accuracy")
    assert found.value == pytest.approx(75, abs=1e-3)
    error = np.sqrt((7 * 0.09 + 3 * 0.24) / PER_CLASS / CLASSES**2 / 3)
    assert found.high - found.low == pytest.approx(2 * 196 * error, rel=0.2)
    assert own.contrast([(1.0, Place("natural", "none"))], "spread") is None


# ---------------------------------------------------------------- the words

TAILS = {"none": 0.5, "augmix": 0.2, "ant": 0.5, "universal": 0.8}


def said(found, scale=SCALE):
    return "\n".join(conclude.sentences(cohort(found, scale)))


def test_the_words_follow_from_the_numbers():
    text = said(made_up(shares(TAILS)))
    gap = "Bias at the long-tailed level (at equal size), by the gap"
    line = next(line for line in text.splitlines() if line.startswith(gap))
    assert "amplify it: AugMix +30.0 (" in line
    assert "mitigate it: UAT -30.0 (" in line
    assert "not told apart from no method: DeepAugment + AugMix" in line
    assert "there is a bias by: the gap" in text
    assert "Class spread at the long-tailed level: widened by: AugMix +" in text
    assert "narrowed by: UAT -" in text
    assert "by what imbalance costs of macro F1: amplify it: AugMix" in text
    turned = said(made_up(shares({**TAILS, "augmix": 0.8, "universal": 0.2})))
    line = next(line for line in turned.splitlines() if line.startswith(gap))
    assert "amplify it: UAT +30.0 (" in line
    assert "mitigate it: AugMix -30.0 (" in line
    alike = said(made_up(shares({"none": 0.8}, head=0.8)))
    assert "amplify it: none; mitigate it: none; not told apart" in alike
    assert "there is a bias by: none" in alike
    # Seeds that disagree tell nothing, whatever their mean is.
    apart = said(
        made_up(lambda key: shares({"none": 0.5, "augmix": (0.2, 0.5, 0.7)[key.seed]})(key))
    )
    line = next(line for line in apart.splitlines() if line.startswith(gap))
    assert "not told apart from no method: AugMix +3.3 (" in line
    # Where a method raises the tail of balanced data as much, it is not the bias that it changes.
    level = made_up(lambda key: np.full(CLASSES, 0.9 if key.method == "augmix" else 0.6))
    assert "by what imbalance costs of balanced accuracy: amplify it: none" in said(level)


def test_a_missing_seed_or_method_leaves_it_open():
    some = said(made_up(shares(TAILS), seeds=(0, 1)))
    assert "amplify it: none; mitigate it: none" in some
    assert "2 of 3 seeds" in some
    without = made_up(lambda key: None if key.method == "shared" else shares(TAILS)(key))
    assert "; missing: shared adversarial training" in said(without)
    assert said({}) == "No cell is there yet that counts."


def test_remedies_and_robust_training():
    def recalls(key):
        alone = 0.7 if key.remedy != PLAIN else 0.3
        return shares({"none": alone, "augmix": 0.5})(key)

    def attacked(key):
        return 0.7 if key.method == "augmix" and key.remedy == PLAIN else 0.4

    text = said(made_up(recalls, attacked=attacked))
    assert "Without a method LDAM-DRW gains: +12.0 (" in text
    assert "survives: none; does harm with: none; not told from nothing with: AugMix" in text
    assert "Under corruptions AugMix gains: +30.0 (" in text
    assert "survives: none; is reversed with: none; not told from nothing with: LDAM-DRW" in text

    def both(key):
        return shares({"none": 0.7 if key.remedy != PLAIN else 0.3})(key)

    def of_both(key):
        return 0.7 if key.method == "augmix" else 0.4 if key.remedy == PLAIN else 0.5

    text = said(made_up(both, attacked=of_both))
    assert "points of balanced accuracy; survives: AugMix +12.0 (" in text
    assert "points with cross-entropy; survives: LDAM-DRW +20.0 (" in text


def test_what_is_not_trained_is_named_and_counts_nowhere():
    floors = SCALE._replace(floors={"digits": 0.75})
    low = made_up(lambda key: shares(TAILS, balanced=0.7 if key.seed == 1 else 0.8)(key), floors)
    own = cohort(low, floors)
    assert {key.seed for key in own.results} == {0, 2}
    text = table.report(low, scale=floors)
    assert "digits.simple_cnn.balanced.none.1 (digits.simple_cnn.balanced.none.1 reaches" in text
    assert "2 of 3 seeds" in text
    guess = made_up(lambda key: shares(TAILS)(key) * (0.1 if key.method == "ant" else 1))
    own = cohort(guess)
    assert "digits.simple_cnn.linear.ant.0" in own.apart
    assert "; missing: ANT" in said(guess)
    gone = {name: r for name, r in low.items() if name != "digits.simple_cnn.balanced.none.2"}
    assert {key.seed for key in cohort(gone, floors).results} == {0}


def test_tables_have_both_metrics_and_every_level():
    text = table.report(made_up(shares(TAILS)), scale=SCALE)
    assert "**AugMix**: the bias is amplified on: digits (simple_cnn) +30.0 (" in text
    assert "**UAT**: the bias is amplified on: none; mitigated on: digits (simple_cnn) -30" in text
    assert "**ANT**: the bias is amplified on: none; mitigated on: none; not told apart on" in text
    assert "#### Table 1: balanced accuracy" in text
    assert "#### Table 1: macro F1" in text
    row = next(line for line in text.splitlines() if line.startswith("| AugMix |"))
    assert row.count("(") == 5
    gap = "| gap, Long-tailed less Balanced, equal size | +30.0 ("
    assert any(line.startswith(gap) for line in text.splitlines())
    assert "| AugMix, LDAM-DRW |" in text
    assert "Training images: Balanced 1,000 (100 to 100 of a class)" in text


# ---------------------------------------------------------------- the program


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The long-tailed networks of the smoke scale, and the folder of their results."""
    workdir = tmp_path_factory.mktemp("rendezvous")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
        command = ["--scale=smoke", f"--workdir={workdir}"]
        assert program.main([*command, "--only=.none.0"]) == 0
        assert program.main([*command, "--only=long_tailed.universal"]) == 0
    return workdir


@pytest.mark.full_size
def test_a_part_of_the_grid_is_enough_for_tables_and_figures(finished):
    files = sorted(file.stem for file in (finished / "results").glob("*.json"))
    start = "digits.simple_cnn"
    assert files == [
        f"{start}.balanced.none.0",
        f"{start}.balanced_equal.none.0",
        f"{start}.long_tailed.none.0",
        f"{start}.long_tailed.universal-ldam_drw.0",
        f"{start}.long_tailed.universal.0",
    ]
    text = (finished / "results" / "table.md").read_text()
    assert "Table 1: macro F1" in text
    assert "missing: AugMix" in text
    page = (finished / "results" / "report.html").read_text("utf-8")
    assert '<h2 id="part0-answer">' in page
    pictures = {file.name for file in (finished / "results").glob("*.png")}
    assert pictures == {
        f"digits_simple_cnn_{name}.png" for name in ("figure1", "classes", "changes")
    }
    stored = {
        name: json.loads((finished / "results" / f"{name}.json").read_text())["result"]
        for name in files
    }
    sums = {name: sum(result["train_count"]) for name, result in stored.items()}
    assert sums[f"{start}.balanced_equal.none.0"] == sums[f"{start}.long_tailed.none.0"]
    assert sums[f"{start}.balanced.none.0"] == 400
    assert (finished / "results" / f"{files[0]}.json").stat().st_size < 10_000
    # Corrupted images are made once, and are those of run_corruptions.
    (folder,) = (finished / "corrupted").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["impulse_noise.npy", "translate.npy"]


@pytest.mark.full_size
def test_corrupted_images_are_those_of_run_corruptions(finished):
    name = "digits.simple_cnn.balanced.none.0"
    cell = next(cell for cell in plan.cells(plan.SMOKE) if cell.name == name)
    config = resolve(cell.config, str(finished / name))
    some = corrupted.prepare(config, finished / "corrupted", number=plan.SMOKE.corrupted)
    logits_fn = setup.trained_logits_fn(config, str(finished / name))
    found = corrupted.classify(logits_fn, some)
    theirs = corruptions.run_corruptions(
        logits_fn,
        prng.key(0),
        some.images.images,
        some.images.labels,
        profile=some.plan.profile,
        severities=some.plan.severities,
        example_ids=some.images.example_ids,
    )
    for corruption, accuracy in found["accuracy"].items():
        right = theirs.predictions[corruption] == some.images.labels
        np.testing.assert_allclose(accuracy, right.mean(axis=1))
    assert some.images.class_counts.tolist() == [2] * 10


@pytest.mark.slow
def test_droughtwatch_runs_on_records_in_its_format(tmp_path, monkeypatch):
    labels = [0] * 24 + [1] * 8 + [2] * 8 + [3] * 8
    pixels = np.random.default_rng(0).integers(0, 256, (48, 65, 65, 11), np.uint8)
    parts = {
        f"dw/{split}/part-r-00000": examples.droughtwatch(pixels, labels)
        for split in ("train", "val")
    }
    archive = tmp_path / "downloads/manual/dw_train_86K_val_10K.zip"
    examples.write_zip(archive, parts)
    known = datasets.info("droughtwatch")._replace(num_examples={"train": 48, "test": 48})
    monkeypatch.setitem(datasets.DATASETS, "droughtwatch", known)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    scale = plan.SMOKE._replace(levels={}, per_class={}, batch_size=8, crafted=16, corrupted=8)
    keys = [key for key in plan.keys(scale, "droughtwatch") if key.method == "none"]
    key = next(key for key in keys if key.level == "long_tailed")
    (cell,) = [cell for cell in plan.cells(scale, dataset="droughtwatch") if cell.name == key.name]
    config = cell.config.copy_and_resolve_references()
    config.data_dir, config.corruptions.name = str(tmp_path), "contrast"
    result = cell.run(config, str(tmp_path / "run"), **cell.options)
    assert np.asarray(result["train_count"]).tolist() == [24, 5, 3, 2]
    assert result["corruptions"]["profile"] == "tiny_imagenet"
    assert len(result["corruptions"]["accuracy"]["contrast"]) == 5
