"""A dataset under several attacks: the same results in blocks of any size, and what is counted."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.analysis.evaluation import Spec
from rbjax.attack_setup import Known
from rbjax.attacks import passes, suite
from rbjax.attacks.outcome import Setting, setting_of, spec_of
from rbjax.metrics import wilson_interval
from rbjax.progress import Progress
from rbjax.typing import AttackResult

N, SHAPE, K = 75, (4, 4, 1), 4
KEY = jax.random.key(5)
ONE = jax.local_devices()[:1]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (N, *SHAPE), dtype=np.uint8)
WEIGHTS = RNG.normal(size=(16, K)).astype(np.float32)
IDS = RNG.permutation(1000)[:N].astype(np.int32)


def linear(weights, images):
    return images.reshape(images.shape[0], -1) @ weights


LOGITS_FN = Partial(linear, WEIGHTS)
LABELS = np.argmax(IMAGES.reshape(N, -1) / np.float32(255) @ WEIGHTS, axis=1).astype(np.int32)
LABELS[::5] = (LABELS[::5] + 1) % K  # some are wrong as they are

ATTACKS: dict[str, suite.Entry] = {
    "pgd": attacks.pgd(epsilon=0.1, num_steps=2),
    "l2": attacks.pgd(epsilon=0.1, norm="l2", num_steps=2, num_restarts=2),
}


def run(**options: Any) -> attacks.SuiteResult:
    given = {"attacks": ATTACKS, "example_ids": IDS, "devices": ONE, **options}
    images, labels = given.pop("images", IMAGES), given.pop("labels", LABELS)
    return attacks.run_attacks(given.pop("logits_fn", LOGITS_FN), KEY, images, labels, **given)


def assert_same(one: attacks.SuiteResult, other: attacks.SuiteResult, rows: Any = slice(None)):
    np.testing.assert_array_equal(one.clean[rows], other.clean)
    assert list(one.outcomes) == list(other.outcomes)
    for label, outcome in one.outcomes.items():
        np.testing.assert_array_equal(
            outcome.predictions[rows], other.outcomes[label].predictions, err_msg=label
        )


@pytest.fixture(scope="module")
def expected() -> attacks.SuiteResult:
    """One block on one device."""
    return run(batch_size=N, keep_images=True)


def test_each_attack_is_what_it_is_by_itself(expected):
    images = jnp.asarray(IMAGES / np.float32(255))
    for label, attack in ATTACKS.items():
        assert not isinstance(attack, attacks.Driver)
        keys = prng.per_example(prng.named(KEY, label), jnp.asarray(IDS))
        result = attack(LOGITS_FN, keys, images, jnp.asarray(LABELS))
        outcome = expected.outcomes[label]
        np.testing.assert_array_equal(outcome.predictions, result.predictions)
        np.testing.assert_array_equal(outcome.fooled, result.fooled)
        np.testing.assert_array_equal(outcome.images, result.images)
        shares = np.asarray(jax.nn.softmax(result.logits))
        np.testing.assert_allclose(outcome.probability, shares.max(axis=1), rtol=1e-5)
        assert 0.1 < outcome.fooled.mean() < 0.9
    clean = np.argmax(linear(WEIGHTS, images), axis=1)
    np.testing.assert_array_equal(expected.clean, clean)
    shares = np.asarray(jax.nn.softmax(linear(WEIGHTS, images)))
    np.testing.assert_allclose(expected.clean_probability, shares.max(axis=1), rtol=1e-5)


def test_it_prints_as_a_table(expected):
    title, settings, headings, _, *rows = repr(expected).splitlines()
    assert title.startswith("run_attacks: 75 images of 4 classes")
    assert settings == "pgd: linf, epsilon 0.1, 2 steps; l2: l2, epsilon 0.1, 2 steps, 2 restarts"
    assert headings.split()[:6] == ["attack", "images", "correct", "low", "high", "fooled"]
    assert [row.split()[0] for row in rows] == ["clean", "pgd", "l2", "worst"]
    share = expected.accuracy("pgd")
    shown = [f"{100 * value:.1f}" for value in share[:3]]
    assert rows[1].split()[1:5] == [str(N), *shown]
    assert str(Setting("linf", 8 / 255, "")) == "linf, epsilon 8/255"
    assert str(setting_of(attacks.autoattack(epsilon=0.5, norm="l2"))) == (
        "l2, epsilon 0.5, standard"
    )
    assert str(setting_of(lambda images: images)) == "not said"
    for name in ("square", "autoattack", "universal"):  # a report says what a table says
        entry = attacks.create(name, epsilon=0.5, norm="linf")
        assert setting_of(Spec(spec_of(entry))) == setting_of(entry)
        assert str(setting_of(entry)).startswith("linf, epsilon 0.5")


@pytest.mark.parametrize(("batch_size", "num_devices"), [(7, 1), (None, 1), (64, 8), (None, 8)])
def test_neither_blocks_nor_devices_matter(expected, batch_size, num_devices):
    devices = jax.local_devices()[:num_devices]
    assert_same(expected, run(batch_size=batch_size, devices=devices))


def test_the_order_does_not_matter(expected):
    order = RNG.permutation(N)
    given = {"images": IMAGES[order], "labels": LABELS[order], "example_ids": IDS[order]}
    assert_same(expected, run(**given, batch_size=16), order)


def test_floats_and_memory_maps_are_the_same(expected, tmp_path):
    floats = IMAGES / np.float32(255)
    assert_same(expected, run(images=floats, batch_size=16))
    mapped = np.memmap(tmp_path / "x", np.uint8, "w+", shape=IMAGES.shape)
    mapped[:] = IMAGES
    assert_same(expected, run(images=mapped, batch_size=16))
    wrong = np.memmap(tmp_path / "y", np.float32, "w+", shape=IMAGES.shape)
    wrong[40] = 2.0
    with pytest.raises(ValueError, match="range from 0 to 2"):
        run(images=wrong, batch_size=16)


class Verdict(NamedTuple):
    predictions: np.ndarray
    share: float = 0.5
    words: tuple[str, ...] = ("a note",)
    images: np.ndarray = IMAGES
    kept: dict[str, np.ndarray] = {"delta": np.ones(3)}  # noqa: RUF012


class Fixed:
    """A driver that says what it was told to, and tells of its progress."""

    def __init__(self, predictions: np.ndarray) -> None:
        self.predictions, self.calls = predictions, []

    def run(self, logits_fn, key, images, labels, *, example_ids, batch_size, devices, progress):
        self.calls.append((len(images), len(labels), list(example_ids), batch_size, devices))
        progress(Progress("half", 1, 2, {"robust": 3}))
        return Verdict(self.predictions[: len(labels)])


def test_the_pointwise_worst_by_hand():
    labels = np.array([0, 1, 2, 3, 0, 1], np.int32)
    images = np.zeros((6, *SHAPE), np.uint8)

    def says(wrong: list[int]) -> np.ndarray:
        predictions = labels.copy()
        predictions[wrong] = (labels[wrong] + 1) % K
        return predictions

    clean = says([5])
    model = Partial(lambda answers, x: jax.nn.one_hot(answers[: x.shape[0]], K), clean)
    given = {"a": Fixed(says([0])), "b": Fixed(says([0, 2, 5]))}
    result = run(
        logits_fn=model,
        images=images,
        labels=labels,
        example_ids=None,
        attacks=given,
        batch_size=6,
    )
    assert result.worst.tolist() == [False, True, False, True, True, False]
    assert result.accuracy().value == 0.5
    assert result.accuracy("clean").value == pytest.approx(5 / 6)
    assert result.accuracy("a").value == pytest.approx(5 / 6)  # right under it, wrong as it is
    assert result.attack_success_rate("b")[::3] == (2 / 5, 5)  # of those right as they are
    assert result.class_accuracy().value.tolist() == [0.5, 0.5, 0.0, 1.0]
    assert result.class_accuracy().count.tolist() == [2, 2, 1, 1]
    low, high = wilson_interval(3, 6)
    assert result.accuracy()[1:3] == (float(low), float(high))
    np.testing.assert_array_equal(
        result.class_accuracy().low, wilson_interval([1, 1, 0, 1], [2, 2, 1, 1])[0]
    )
    np.testing.assert_array_equal(result.class_success_rate("b").value[[0, 2]], [0.5, 1.0])
    with pytest.raises(ValueError, match="attack 'c' is unknown; allowed: a, b"):
        result.accuracy("c")


def test_a_driver_attacks_the_whole_dataset_itself(tmp_path):
    driver, told = Fixed((LABELS + 1) % K), []
    given = {"attacks": {"mine": driver}, "batch_size": 7, "devices": None, "journal": tmp_path}
    result = run(**given, progress=told.append)
    outcome = result.outcomes["mine"]
    assert driver.calls == [(N, N, list(IDS), 7, None)]
    assert told[-1] == Progress("mine: half", 1, 2, {"robust": 3})
    assert not outcome.correct.any()
    assert outcome.details == {"share": 0.5, "words": ["a note"]}  # no array of the images
    np.testing.assert_array_equal(outcome.kept["delta"], np.ones(3))
    again = run(**given)
    assert len(driver.calls) == 1
    assert_same(result, again)
    assert again.outcomes["mine"].details == outcome.details
    np.testing.assert_array_equal(again.outcomes["mine"].kept["delta"], np.ones(3))


def test_a_driver_that_asks_gets_a_folder_of_its_own(tmp_path):
    folders = []

    class Long:
        def run(self, logits_fn, key, images, labels, *, journal=None, **options):
            folders.append(journal)
            return Verdict(labels)

    run(attacks={"long": Long()})
    run(attacks={"long": Long()}, journal=tmp_path)
    assert folders[0] is None
    assert folders[1].parent == tmp_path


def test_only_what_is_counted_is_attacked():
    mask = LABELS == 2
    driver = Fixed(np.zeros(N, np.int32))
    counted: Any = {"pgd": mask, "mine": mask}
    result = run(attacks={**ATTACKS, "mine": driver}, counted=counted, keep_images=True)
    whole = run()
    outcome = result.outcomes["pgd"]
    np.testing.assert_array_equal(
        outcome.predictions, np.where(mask, whole.outcomes["pgd"].predictions, whole.clean)
    )
    moved = np.any(outcome.images != IMAGES / np.float32(255), axis=(1, 2, 3))
    np.testing.assert_array_equal(moved, mask)
    assert result.outcomes["mine"].images is None
    np.testing.assert_array_equal(np.isnan(result.outcomes["mine"].probability), mask)
    assert driver.calls[0][:3] == (mask.sum(), mask.sum(), list(IDS[mask]))
    assert result.accuracy("pgd").count == mask.sum()
    assert result.class_accuracy("pgd").count.tolist() == [0, 0, mask.sum(), 0]
    assert np.isnan(result.class_accuracy("pgd").value[0])
    # What is not counted is as it is; what is wrong as it is stays wrong in the worst.
    expected = whole.clean_correct & whole.outcomes["l2"].correct & ~mask
    np.testing.assert_array_equal(result.worst, expected)


def test_targets_leave_out_their_own_class():
    targets = np.full(N, 3)
    result = run(targets={"pgd": targets}, attacks={"pgd": attacks.pgd(epsilon=0.5)})
    outcome = result.outcomes["pgd"]
    np.testing.assert_array_equal(outcome.counted, LABELS != 3)
    attacked = outcome.counted & result.clean_correct
    rate = result.attack_success_rate("pgd")
    assert rate.count == attacked.sum()
    assert rate.value == np.mean(outcome.predictions[attacked] == 3)
    assert 0.2 < rate.value < 1
    np.testing.assert_array_equal(outcome.fooled, outcome.counted & (outcome.predictions == 3))
    np.testing.assert_array_equal(outcome.predictions[LABELS == 3], result.clean[LABELS == 3])


def test_randomised_models(expected):
    def noisy(weights, keys, images):
        noise = jax.vmap(lambda key: jax.random.normal(key, (K,)))(keys)
        return linear(weights, images) + 0.2 * noise

    model = attacks.randomized(Partial(noisy, WEIGHTS), num_samples=4)
    given = {"logits_fn": model, "attacks": {"l2": ATTACKS["l2"]}}
    result = run(**given, batch_size=16)
    assert_same(result, run(**given, batch_size=N))
    assert np.mean(result.clean == expected.clean) > 0.9


class KilledError(Exception):
    """Stands for a signal."""


def test_killed_and_resumed(tmp_path, monkeypatch, expected):
    """Whenever it stops: the same results, and no finished block is attacked again."""
    attacked = []
    original = suite._attacker

    def counting(work, job, key):
        ask = original(work, job, key)

        def counted(block, images):
            attacked.append((id(job.entry), block.rows[0]))
            return ask(block, images)

        return counted

    monkeypatch.setattr(suite, "_attacker", counting)
    looks = [0]

    def progress(_):
        looks[0] += 1
        if looks[0] > 4:
            looks[0] = 0
            raise KilledError

    result, num_runs = None, 0
    while result is None:
        num_runs += 1
        try:
            result = run(batch_size=16, journal=tmp_path / "journal", progress=progress)
        except KilledError:
            looks[0] = -num_runs  # gets further each time
    assert num_runs > 3
    assert_same(expected, result)
    assert len(attacked) == len(set(attacked))  # the last look comes after the block is written
    before = len(attacked)
    assert_same(result, run(batch_size=16, journal=tmp_path / "journal"))
    assert len(attacked) == before
    # Another attack in the same folder leaves the others' blocks alone.
    more = {**ATTACKS, "fgsm": attacks.fgsm(epsilon=0.1)}
    assert_same(run(attacks=more), run(batch_size=16, journal=tmp_path / "journal", attacks=more))
    assert len(attacked) > before
    stronger = {"pgd": attacks.pgd(epsilon=0.2, num_steps=2)}
    found = run(batch_size=16, journal=tmp_path / "journal", attacks=stronger)
    assert_same(found, run(attacks=stronger))


@pytest.mark.parametrize(
    "wrap", [lambda attack: attack, lambda attack: Known(attack, "lab:attack", ())]
)
def test_attacks_of_one_name_are_told_apart_by_what_they_do(tmp_path, wrap):
    """Closures with other values; and makers from outside, whose code was edited meanwhile."""

    def made(epsilon):
        def attack(logits_fn, keys, images, labels, *, targets=None):
            fgsm = attacks.fgsm(epsilon=epsilon)
            return fgsm(logits_fn, keys, images, labels, targets=targets)

        return {"own": wrap(attack)}

    for epsilon in (0.01, 0.9, 0.01):
        assert_same(run(attacks=made(epsilon), journal=tmp_path), run(attacks=made(epsilon)))
    assert len(list(tmp_path.glob("own-*"))) == 2


def test_a_damaged_block_is_attacked_again(tmp_path, expected):
    run(batch_size=16, journal=tmp_path)
    blocks = sorted(tmp_path.glob("*-block-*.npz"))
    blocks[0].write_bytes(blocks[0].read_bytes()[:-9])
    blocks[-1].unlink()
    assert_same(expected, run(batch_size=16, journal=tmp_path))


def test_another_call_is_refused(tmp_path):
    run(batch_size=16, journal=tmp_path)
    changes = {
        "model": {"logits_fn": Partial(linear, WEIGHTS + 1)},
        "images": {"images": IMAGES / np.float32(255)},
        "labels": {"labels": (LABELS + 1) % K},
        "example_ids": {"example_ids": IDS[::-1].copy()},
        "batch_size": {"batch_size": 32},
    }
    for field, change in changes.items():
        with pytest.raises(ValueError, match=f"belongs to a run with {field} = "):
            run(**{"batch_size": 16, "journal": tmp_path, **change})
    changed = IMAGES.copy()
    changed[-1, 0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="clean-block-000004 is of other images than this call's"):
        run(batch_size=16, journal=tmp_path, images=changed)


def test_autoattack_is_a_driver(monkeypatch):
    monkeypatch.setattr(passes, "VERSIONS", {"standard": ("apgd-ce", "square")})
    result = run(
        images=IMAGES[:8],
        labels=LABELS[:8],
        example_ids=IDS[:8],
        attacks={"aa": attacks.autoattack(epsilon=0.02), "pgd": attacks.pgd(epsilon=0.02)},
    )
    outcome = result.outcomes["aa"]
    assert not np.any(outcome.correct & ~result.outcomes["pgd"].correct & result.clean_correct)
    assert set(outcome.details["accuracy_after"]) == {"clean", "apgd-ce", "square"}


def test_an_attack_of_ones_own_is_judged_by_the_model():
    """Whatever it says of its images; what is not finite is no image."""

    def boast(logits_fn, keys, images, labels, *, targets=None):
        wrong = (labels + 1) % 3
        return AttackResult(images, jnp.ones(len(labels), bool), 0.0 * labels, wrong)

    def broken(logits_fn, keys, images, labels, *, targets=None):
        return boast(logits_fn, keys, images.at[0].set(jnp.nan), labels)

    result = run(attacks={"boast": boast})
    np.testing.assert_array_equal(result.outcomes["boast"].predictions, result.clean)
    with pytest.raises(ValueError, match=r"attacks\['broken'\] returns 1 of .* not finite"):
        run(attacks={"broken": broken})
