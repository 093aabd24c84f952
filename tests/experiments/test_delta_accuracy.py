"""P3's experiment on digits, and its tables and sentences on made-up results."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import jax
import numpy as np
import pytest

from experiments.delta_accuracy import __main__ as program
from experiments.delta_accuracy import (
    claims,
    compare,
    copies,
    figures,
    measure,
    plan,
    quirks,
    table,
)
from rbjax import data, models
from rbjax.command_line import resolve
from rbjax.data import alignmnist, storage

TRAIN, TEST, SOME = 2000, 1000, 400
SCALE = plan.CPU._replace(seeds=2)
PAPER = {version: claims.published("delta", version) for version in plan.VERSIONS}


def shares(count, share, generator):
    return generator.permutation(count) < round(share * count)


def made(accuracy, delta, seed, *, corrupted=-5.0, rpr=50.0, test_accuracy=99.0):
    """A result with these numbers on training and test images alike, in per cent and points."""
    generator = np.random.default_rng(seed)
    result: Any = {"source": copies.GENERATED, "shown": "", "labels": ""}
    for split, count, right in (("train", TRAIN, accuracy), ("test", TEST, test_accuracy)):
        clean = shares(count, right / 100, generator)
        lost = np.zeros(count, int)
        lost[np.flatnonzero(clean)[: round(-delta / 100 * count)]] = measure.COPIES
        result[split] = {
            "count": count,
            "clean": np.packbits(clean).tobytes().hex(),
            "copies": "".join(f"{c:x}" for c in clean * measure.COPIES - lost),
        }
    clean = measure.flags(result["test"], "clean")[:SOME]
    names = {f"c{number}": 0.0 for number in range(10)}
    right = 10 * clean - np.where(shares(SOME, -corrupted / 50, generator), 5 * clean, 0)
    result["corruptions"] = {
        "count": SOME,
        "accuracy": names,
        "right": "".join(f"{n:x}" for n in right),
    }
    robust = np.packbits(shares(SOME, rpr / 100, generator)).tobytes().hex()
    result["rpr"] = {"count": SOME, "right": robust, "draws": 10}
    return result


def grid(deltas, **changes):
    """Results of both seeds of versions, {version: Δ}; changes are {version: {number: value}}."""
    return {
        plan.cell_name(version, seed): made(99.5, delta, seed, **changes.get(version, {}))
        for version, delta in deltas.items()
        for seed in range(SCALE.seeds)
    }


def verdict(results, words, scale=SCALE):
    found, _ = compare.cohort(results, scale)
    claim = next(claim for claim in claims.CLAIMS if words in claim.text)
    return claims.judge(claim, found, num_seeds=scale.seeds)


def test_measures_are_those_of_the_images():
    result = made(99.0, -2.0, 0, corrupted=-6.0, rpr=30.0)
    results = {"original": {0: result}}
    for name, value in (
        ("accuracy", 99.0),
        ("transformed", 97.0),
        ("delta", -2.0),
        ("test_delta", -2.0),
        ("train_of_right", -100 * 2 / 99),
        ("rpr", 30.0),
        ("gap", 0.0),
    ):
        found = compare.estimate(name, results["original"])
        assert found is not None
        assert found.value == pytest.approx(value), name
        assert compare.spread(name, results["original"]) == (pytest.approx(value), None)
    found = compare.estimate("corruptions", results["original"])
    assert found is not None
    assert found.value == pytest.approx(-6.0, abs=0.2)
    # 40 of 2,000 images lose all of their copies.
    delta = compare.estimate("delta", results["original"])
    assert delta is not None
    half = 196 * np.sqrt(0.02 * 0.98 / TRAIN)
    np.testing.assert_allclose((delta.low, delta.high), (-2 - half, -2 + half), rtol=0.01)


def test_versions_are_compared_on_the_same_images_and_seeds():
    one = {seed: made(99.5, -1.0, seed) for seed in range(3)}
    same = compare.estimate("delta", one, one)
    assert same == (0, 0, 0, 1)
    assert compare.estimate("delta", one, {7: one[0]}) is None
    other = {seed: made(99.5, -3.0, seed) for seed in (0, 2)}
    found = compare.estimate("delta", one, other)
    assert found is not None
    assert found.value == pytest.approx(2.0)
    assert found.low > 0
    assert found.p_value < 0.001


@pytest.mark.parametrize(
    ("average", "expected"),
    [(-0.2, claims.HOLDS), (-4.0, claims.FAILS), (-1.5, claims.OPEN), (-1.45, claims.OPEN)],
)
def test_a_verdict_changes_with_the_numbers(average, expected):
    words = "average pooling is better"
    found = verdict(grid({"original": -1.5, "average_pool": average}), words)
    assert found.verdict == expected
    assert found.published == "no"
    assert found.published_value == pytest.approx(-0.242)
    del (results := grid({"original": -1.5, "average_pool": average}))["average_pool.1"]
    assert verdict(results, words).verdict == claims.OPEN  # a seed is missing
    assert verdict({}, words).verdict == "missing"


def test_one_part_that_fails_is_enough():
    deltas = dict.fromkeys(plan.VERSIONS, -2.0) | {"no_step": -0.2}
    words = "least effect on"
    found = verdict(grid(deltas | {"average_pool": -1.2}), words)
    assert found.verdict == claims.HOLDS
    assert found.part == "Δ, train: StepLR - AveragePool"  # the nearest of those that hold
    found = verdict(grid(deltas | {"conv_pool": -0.01}), words)
    assert found.verdict in (claims.FAILS, claims.OPEN)
    assert found.part == "Δ, train: StepLR - ConvPool"
    assert verdict(grid(deltas | {"no_step": -4.0}), words).verdict == claims.FAILS


def test_the_papers_own_numbers_do_not_say_all_that_its_text_does():
    contrary = {
        claim.text: judged.published_value
        for claim in claims.CLAIMS
        if (judged := claims.judge(claim, {v: {} for v in plan.VERSIONS}, num_seeds=1)).published
        == "no"
    }
    assert len(contrary) == 2
    second = next(text for text in contrary if "2nd highest" in text)
    assert contrary[second] == pytest.approx(98.566 - 98.734)
    blocks = claims.expected()["blocks"]
    apart = np.mean(blocks["original"]) - np.mean(blocks["average_pool"])
    assert apart == pytest.approx(0.302)  # where the text has 0.28
    assert PAPER["original"] == pytest.approx(-1.026)


def test_what_follows_changes_with_the_numbers():
    def lines(results):
        text = table.report(results, SCALE, as_published=False)
        return text, text.split("### What follows")[1]

    spread = {version: -1.0 - 1.5 * n for n, version in enumerate(plan.VERSIONS)}
    same = {v: {"rpr": 90.0 - 12 * n} for n, v in enumerate(plan.VERSIONS)}
    reverse = {v: {"rpr": 30.0 + 12 * n} for n, v in enumerate(plan.VERSIONS)}
    text, after = lines(grid(spread, **same))
    assert re.search(
        r"By RPR in place of Δ: \+1\.00 \(\+0\.\d+ to \+1\.00\), the same order\.", after
    )
    assert "15 of 15 pairs" in after
    assert re.search(r"3 fail \(.*average pooling is better.*\), 6 are open; 2 do", after)
    assert "| original | 2 of 2 | 99.50 ± 0.00 |" in text
    assert "From original to AveragePool Δ falls by 7.50 points" in after
    _, after = lines(grid(spread, **reverse))
    assert re.search(r"By RPR in place of Δ: -1\.00 .*, orders are opposite\.", after)
    _, after = lines(grid(dict.fromkeys(plan.VERSIONS, -2.0)))
    assert "no agreement shown" in after
    assert "0 of 15 pairs" in after


def test_what_is_not_trained_is_named_and_enters_nothing():
    results = grid(dict.fromkeys(plan.VERSIONS, -1.0), no_step={"test_accuracy": 97.9})
    text = table.report(results, SCALE, as_published=False)
    assert "below it, and in no figure here: no_step.0 (97.90 %), no_step.1 (97.90 %)" in text
    assert "| StepLR | 0 of 2 |" in text
    assert verdict(results, "least effect on").verdict == "missing"
    assert "nothing follows" in table.report({}, SCALE, as_published=False)


def test_copies_that_differ_beyond_chance_are_found():
    count, blocks = 3000, 75
    generator = np.random.default_rng(0)
    easy = generator.random((blocks, count, 1))[..., 0] < np.where(np.arange(count) < 20, 0.5, 1.0)
    hard = easy.copy()
    hard[::2, 60:150] = False
    for flags, expected in ((easy, claims.HOLDS), (hard, claims.FAILS)):
        stored = {
            "count": count,
            "blocks": flags.sum(axis=1),
            "squares": int(np.sum(flags.sum(axis=0) ** 2)),
        }
        seen = compare.stability(stored)
        share = flags.mean(axis=0)
        by_chance = np.sum(share * (1 - share)) * blocks / (blocks - 1)
        assert seen.chance == pytest.approx(100 / count * np.sqrt(by_chance))
        assert seen.deviation == pytest.approx(100 / count * np.std(flags.sum(axis=1), ddof=1))
        assert claims.judge_stability({"original": {0: {"stable": stored}}}).verdict == expected
    assert seen.p_value < 1e-9
    assert seen.low < 1.5 < seen.high  # half of the copies lose 3 points


def test_the_example_is_the_copy_with_the_most_classes():
    """Of three images in five copies each; two copies have three classes."""
    found, _ = compare.cohort(grid(dict.fromkeys(plan.VERSIONS, -1.0)), SCALE)
    shown = dict.fromkeys(plan.VERSIONS, "1" * 15) | {
        "no_step": "111" + "118" + "111" + "171" + "111",
        "conv_pool": "121" + "129" + "121" + "191" + "111",
    }
    for version, results in found.items():
        results[0].update(shown=shown[version], labels="171")
    row, copy, classes = compare.example(found) or (None, None, {})
    assert (row, copy) == (1, 4)
    assert classes == dict.fromkeys(plan.VERSIONS, 1) | {"no_step": 7, "conv_pool": 9}
    text = table.report(
        {plan.cell_name(v, s): r for v, by in found.items() for s, r in by.items()},
        SCALE,
        as_published=False,
    )
    assert "give the most classes (3): copy 4 of test image 1, a 7;" in text
    assert "Right: StepLR; in the paper the original and StepLR." in text


def test_the_loss_and_the_order_are_those_of_the_authors_code():
    logits = jax.numpy.array([[2.0, 0.0, -1.0], [0.5, 0.2, -0.1]])
    labels = jax.numpy.array([0, 2])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.log(np.exp(probabilities).sum(axis=1)) - probabilities[[0, 1], [0, 2]]
    np.testing.assert_allclose(quirks.softmax_twice()(logits, labels), expected, rtol=1e-6)
    rows = quirks.in_order()(np.zeros(10), seed=3, epoch=2, batch_size=3, num_steps=3)
    np.testing.assert_array_equal(rows, np.arange(9).reshape(3, 3))


def test_every_cell_is_a_config_and_the_code_differs_where_it_should():
    written, published = (
        {c.name: c for c in plan.cells(plan.PAPER, as_published=p)} for p in (False, True)
    )
    assert len(written) == len(published) == 30
    for cell in (*written.values(), *published.values()):
        resolve(cell.config, cell.name)
    assert written["no_step.1"].config.schedule.name == "constant"
    assert written["original.0"].config.schedule.epochs_per_step == 1.0
    assert plan.cells(plan.CPU, as_published=False)[0].config.schedule.epochs_per_step == 8 / 20
    assert written["no_dropout.0"].config.model.name == "lenet_no_dropout"
    assert published["no_dropout.0"].config.model.pool_dropout is False
    assert published["original.0"].config.loss.name.endswith("softmax_twice")
    stable = [name for name, cell in written.items() if cell.options["stable"]]
    assert stable == ["original.0"]


def test_figure_2_is_the_models_own():
    model = models.create(
        "lenet_modern", num_classes=10, image_shape=(28, 28, 1), mean=(0.0,), std=(1.0,)
    )
    found = figures.layers(model)
    assert [layer.kind for layer in found] == ["conv", "conv", "pool"] * 2 + ["conv", "dense"]
    assert found[2] == figures.Layer("pool", (5, 5), (12, 12, 32), ("ReLU", "batch norm"))
    assert [layer.shape[-1] for layer in found] == [32, 32, 32, 64, 64, 64, 128, 10]


def test_published_copies_are_found_by_what_the_images_are(monkeypatch):
    """The file's order is not that of the split here."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, 20).astype(np.int32)
    kept = {"train": images, "block_3": 255 - images}
    monkeypatch.setattr(alignmnist, "load_split", lambda split, _: (kept[split], labels))
    mnist = data.from_arrays(data.info("mnist"), "train", images[::-1], labels[::-1])
    some = mnist.take(np.array([4, 11]))
    np.testing.assert_array_equal(copies.published(some, 3, None), 255 - some.images)
    other = dataclasses.replace(some, info=some.info._replace(name="npz"))
    assert copies.published(other, 3, None) is None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A scale whose images are digits within a black margin."""
    folder = tmp_path_factory.mktemp("data")
    arrays = {}
    for split in ("train", "test"):
        one = data.load("digits", split)
        arrays[f"{split}_images"] = np.pad(one.images, ((0, 0), (6, 6), (6, 6), (0, 0)))
        arrays[f"{split}_labels"] = one.labels
    np.savez(folder / "digits.npz", **arrays)
    return plan.SMOKE._replace(dataset="npz", path=str(folder / "digits.npz"), stable=8)


@pytest.mark.full_size
def test_the_program_measures_a_cell_once(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(program, "SCALES", {"smoke": digits})
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])  # quicker to compile
    given = ["--only=original", f"--workdir={tmp_path / 'runs'}"]
    assert program.main(given) == 0
    first = capsys.readouterr().out
    results = tmp_path / "runs" / "results"
    stored = json.loads((results / "original.0.json").read_text())["result"]
    assert (results / "original.0.json").stat().st_size < 20_000
    for name in ("figure1.png", "figure2.png", "figure3.png", "figure4.png"):
        assert (results / name).stat().st_size > 1000
    assert "not the published AlignMNIST" in first.replace("\n", " ")
    assert "| original | 1 of 1 |" in first
    assert "| StepLR | 0 of 1 |" in first
    page = (results / "report.html").read_text("utf-8")
    assert '<h2 id="part0-what-the-text-claims">' in page
    assert '<h2 id="part1-what-follows">' in page
    assert stored["train"]["count"] == digits.train
    clean = measure.flags(stored["test"], "clean")
    right = measure.counts(stored["test"], "copies")
    assert len(clean) == len(right) == digits.test
    assert right.sum() == sum(stored["test"]["blocks"])
    assert len(stored["stable"]["blocks"]) == measure.BLOCKS
    assert len(stored["shown"]) == measure.COPIES * digits.shown
    assert (storage.own_folder(tmp_path / "data") / "alignmnist_generated").is_dir()
    assert program.main(given) == 0
    assert "begins" not in capsys.readouterr().out
    # As if all versions had come out alike.
    alike = {plan.cell_name(version, 0): stored for version in plan.VERSIONS}
    figures.draw(alike, tmp_path, scale=digits, as_published=True)
    assert len(list(tmp_path.glob("figure?.png"))) == 5
