from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks import passes
from rbjax.attacks.apgd_l1 import APGDL1Plan
from rbjax.attacks.passes import Run
from tests.attacks.linear import IMAGES, LABELS, LOGITS_FN, between, exact, linear, sizes

KEY = jax.random.key(0)
NORMS = ("linf", "l2", "l1")
ONE = jax.local_devices()[:1]
HALVES = passes.halves


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The same attacks with fewer steps, queries, and sizes of blocks to compile."""
    monkeypatch.setattr(passes, "NUM_STEPS", 30)
    monkeypatch.setattr(passes, "NUM_QUERIES", 300)
    monkeypatch.setattr(passes, "STRETCHES", (50, 200))
    monkeypatch.setattr(passes, "halves", lambda size: [s for s in HALVES(size) if 2 * s == size])


def run(
    norm="linf", images: Any = IMAGES, labels: Any = LABELS, model: Any = LOGITS_FN, **options
) -> Any:
    # On one device; that several give the same is a test of its own.
    options = {"norm": norm, "devices": ONE, "keep_images": True, **options}
    options.setdefault("epsilon", between(norm if norm in NORMS else "linf"))
    return attacks.run_autoattack(model, KEY, images, labels, **options)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.full_size), "l1"])
def test_it_leaves_what_cannot_be_fooled(norm):
    result = run(norm)
    np.testing.assert_array_equal(result.robust, exact(norm) >= between(norm))
    # What is returned is what is said of it.
    np.testing.assert_array_equal(result.robust, result.predictions == np.asarray(LABELS))
    predictions = np.argmax(LOGITS_FN(result.images), axis=1)
    np.testing.assert_array_equal(result.predictions, predictions)
    assert np.all(sizes(result.images - IMAGES, norm) <= between(norm) + 1e-6)
    assert np.all((result.images >= 0) & (result.images <= 1))
    np.testing.assert_array_equal(result.images[result.robust], IMAGES[result.robust])


def test_answers_of_no_class_are_not_robust():
    """As those of a model whose weights are NaN; there is nothing to attack."""
    result = run(model=Partial(linear, jnp.nan * LOGITS_FN.args[0]))
    assert not np.any(result.robust)
    np.testing.assert_array_equal(result.clean_predictions, np.full(len(LABELS), -1))
    assert result.accuracy_after == dict.fromkeys(result.accuracy_after, 0.0)
    np.testing.assert_array_equal(result.images, IMAGES)


def test_each_attack_sees_what_the_last_ones_left():
    told = []
    result = run(progress=told.append, keep_images=False)
    after, names = result.accuracy_after, list(result.accuracy_after)
    assert names == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    for name, before in zip(names[1:], names, strict=False):
        assert result.num_attacked[name] == round(after[before] * len(LABELS))
        assert after[name] <= after[before]
    assert after["square"] == result.robust.mean()
    # One pass of APGD-CE, four targets each of APGD-T and FAB-T, and Square.
    assert [p.done for p in told] == list(range(1, 11))
    assert all(p.of == 10 for p in told)
    assert [p.task for p in told] == ["apgd-ce", *["apgd-t"] * 4, *["fab-t"] * 4, "square"]
    assert told[-1].figures["robust"] == result.robust.sum()
    # Which images have an adversarial one is known, though none is kept.
    assert result.images is result.adversarial is result.originals is None
    fooled = (result.clean_predictions == np.asarray(LABELS)) & ~result.robust
    np.testing.assert_array_equal(result.adversarial_rows, np.flatnonzero(fooled))


def test_a_member_alone_fools_what_it_fools_in_the_row():
    """APGD-CE comes first: the attack of that name with the same keys does just the same."""
    result = run()
    keys = prng.per_example(prng.named(KEY, "apgd-ce"), jnp.arange(len(LABELS)))
    alone = attacks.apgd(epsilon=between("linf"), num_steps=30)(LOGITS_FN, keys, IMAGES, LABELS)
    fooled = np.asarray(alone.fooled)
    assert result.accuracy_after["apgd-ce"] == pytest.approx(1 - fooled.mean())
    np.testing.assert_allclose(result.images[fooled], alone.images[fooled], atol=1e-6)


def test_batches_order_and_devices_do_not_matter():
    order = np.random.default_rng(1).permutation(len(LABELS))
    ids = np.arange(len(LABELS))
    one = run(batch_size=24)
    other = run(
        images=np.asarray(IMAGES)[order],
        labels=np.asarray(LABELS)[order],
        example_ids=ids[order],
        batch_size=8,
        devices=jax.local_devices(),
    )
    np.testing.assert_array_equal(other.robust, one.robust[order])
    np.testing.assert_allclose(other.images, one.images[order], atol=1e-5)


def test_it_goes_on_where_it_was(tmp_path, monkeypatch):
    """Stopped after the third pass: the first three are read, and the result is the same."""

    class StoppedError(Exception):
        pass

    def stop(told):
        if told.done == 3:
            raise StoppedError

    whole = run()
    with pytest.raises(StoppedError):
        run(journal=tmp_path, progress=stop)
    assert len(list(tmp_path.glob("*-block-*.npz"))) == 3
    attacked, collect = [], Run._results

    def count(self, block, *results, **made):
        attacked.append(block.name.split("-block")[0])
        return collect(self, block, *results, **made)

    monkeypatch.setattr(Run, "_results", count)
    again = run(journal=tmp_path)
    aimed = ["03-apgd-t-2", "04-apgd-t-3", *(f"{5 + rank:02d}-fab-t-{rank}" for rank in range(4))]
    assert attacked == [*aimed, "09-square-0"]
    for one, other in zip(vars(whole).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"belongs to a run with attack"):
        run(journal=tmp_path, epsilon=0.01)


def test_clean_mistakes_are_not_attacked():
    wrong = np.arange(len(LABELS)) < 5
    result = run(labels=jnp.where(wrong, (LABELS + 1) % 5, LABELS))
    assert result.num_attacked["apgd-ce"] == len(LABELS) - 5
    assert not np.any(result.robust[wrong])
    np.testing.assert_array_equal(result.images[wrong], IMAGES[wrong])


def test_eight_bit_images_are_read_block_by_block(monkeypatch):
    """No more than a block is read at once or sent through the model, and none is kept as float."""
    eight = np.round(np.asarray(IMAGES) * 255).astype(np.uint8)
    monkeypatch.setattr(passes, "_SQUARE_BLOCKS", 2)
    monkeypatch.setattr(passes, "VERSIONS", {"standard": ("apgd-ce", "square")})
    read, seen = [], set()

    class Source:
        shape, dtype = eight.shape, eight.dtype

        def __len__(self):
            return len(eight)

        def __getitem__(self, rows):
            read.append(np.size(np.arange(len(eight))[rows]))
            return eight[rows]

    def watched(weights, images):
        seen.add(images.shape[0])
        return linear(weights, images)

    model = Partial(watched, LOGITS_FN.args[0])
    result = run(images=Source(), batch_size=4, model=model)
    assert max(read) == 8  # of Square
    assert max(seen) == 4
    expected = run(images=eight / np.float32(255))
    np.testing.assert_array_equal(result.robust, expected.robust)
    np.testing.assert_allclose(result.images, expected.images, atol=1e-5)
    assert isinstance(result.originals, Source)
    assert len(result.adversarial) == len(LABELS) - result.robust.sum()


def test_passes_are_counted(monkeypatch):
    """Those of Square by what drops out between its stretches; one image a block: no padding."""
    monkeypatch.setattr(passes, "VERSIONS", {"standard": ("apgd-ce", "square")})
    looked = []

    def watched(weights, images):
        jax.debug.callback(lambda x: looked.append(len(x)), images)
        return linear(weights, images)

    model = Partial(watched, LOGITS_FN.args[0])
    result = run(images=IMAGES[:6], labels=LABELS[:6], batch_size=1, model=model)
    jax.effects_barrier()
    assert result.forwards == sum(looked)
    assert result.backwards == 31 * 6  # a start and 30 steps of APGD


def test_nothing_left_to_attack():
    result = run(labels=(LABELS + 1) % 5)
    assert not result.robust.any()
    assert result.num_attacked == dict.fromkeys(passes.VERSIONS["standard"], 0)


@pytest.mark.parametrize(
    ("num_classes", "num_notes"), [(2, 2), pytest.param(3, 2, marks=pytest.mark.full_size), (5, 1)]
)
def test_few_classes_are_said(num_classes, num_notes):
    model = Partial(linear, LOGITS_FN.args[0][:, :num_classes])
    labels = jnp.argmax(model(IMAGES), axis=-1)
    if num_classes == 3:  # it is said before anything is attacked; that two can be is enough
        labels = (labels + 1) % num_classes
    result = run(model=model, labels=labels, epsilon=0.01)
    assert len(result.notes) == num_notes
    assert f"{num_classes} classes" in result.notes[0]


def test_the_standard_version_in_l1():
    """As the official code sets it: 5 restarts of APGD-CE, 5 targets of APGD-T, 9 of FAB-T."""
    parts = passes.passes("standard", "l1", 10)
    assert [part.attack for part in parts] == ["apgd-ce", *["apgd-t"] * 5, *["fab-t"] * 9, "square"]
    assert isinstance(parts[0].plan, APGDL1Plan)
    assert parts[0].plan.num_restarts == 5
    assert passes.notes("standard", "l1", 10) == ()
    assert passes.notes("standard", "l1", 6) == ("6 classes: fab-t aims at 5 targets, not 9",)


def test_plus_and_rand():
    plus = run(version="plus")
    assert list(plus.accuracy_after)[1:] == list(passes.VERSIONS["plus"])
    np.testing.assert_array_equal(plus.robust, run().robust)

    def noisy(weights, keys, images):
        noise = jax.vmap(lambda key: jax.random.normal(key, (36, 1)))(keys)
        return linear(weights, images + 0.02 * noise.reshape(images.shape))

    model = attacks.randomized(Partial(noisy, LOGITS_FN.args[0]), num_samples=4)
    random = run(version="rand", model=model)
    assert list(random.accuracy_after) == ["clean", "apgd-ce", "apgd-dlr"]
    # A little noise in a linear model hardly moves what can be fooled.
    assert np.mean(random.robust == run().robust) > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 8}, "epsilon is 8.0; with norm 'linf'"),
        ({"epsilon": None}, "epsilon is None; it must be a number"),
        ({"norm": "l0", "epsilon": 1.0}, "norm 'l0' is unknown; allowed: linf, l2, l1"),
        ({"version": "standart"}, "did you mean 'standard'"),
        ({"version": "rand"}, "version 'rand' is for randomised classifiers"),
        ({"images": IMAGES[:3]}, "labels has shape"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images holds no image"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"devices": []}, "devices is empty"),
        ({"example_ids": np.arange(3)}, "example_ids has shape"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)
