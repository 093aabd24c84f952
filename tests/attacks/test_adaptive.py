from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks import passes, rounds
from rbjax.attacks.attack import Task
from rbjax.attacks.rounds import Directions, Round, Rounds
from rbjax.classifier import as_classifier
from tests.attacks.linear import DUAL, IMAGES, LABELS, LOGITS_FN, between, distances, linear, sizes

KEY = jax.random.key(0)
ONE = jax.local_devices()[:1]
HALVES = passes.halves


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The same rounds with fewer repeats, and fewer sizes of blocks to compile."""
    for name in ("USUAL", "MISLED"):
        table = getattr(rounds, name)
        monkeypatch.setattr(rounds, name, tuple(part._replace(repeats=1) for part in table))
    monkeypatch.setattr(rounds, "_MORE_REPEATS", 1)
    monkeypatch.setattr(passes, "halves", lambda size: [s for s in HALVES(size) if 2 * s == size])


def run(
    norm="linf", images: Any = IMAGES, labels: Any = LABELS, model: Any = LOGITS_FN, **options
) -> Any:
    options = {"norm": norm, "devices": ONE, "keep_images": True, **options}
    options.setdefault("epsilon", between("linf") if norm not in DUAL else between(norm))
    return attacks.run_adaptive_autoattack(model, KEY, images, labels, **options)


@pytest.mark.parametrize("norm", DUAL)
def test_it_leaves_what_cannot_be_fooled(norm):
    told = []
    result = run(norm, progress=told.append)
    np.testing.assert_array_equal(result.robust, distances(norm) >= between(norm))
    np.testing.assert_array_equal(result.robust, result.predictions == np.asarray(LABELS))
    np.testing.assert_array_equal(result.predictions, np.argmax(LOGITS_FN(result.images), axis=1))
    assert np.all(sizes(result.images - IMAGES, norm) <= between(norm) + 1e-6)
    assert np.all((result.images >= 0) & (result.images <= 1))
    np.testing.assert_array_equal(result.images[result.robust], IMAGES[result.robust])
    assert list(result.accuracy_after) == ["clean", *(f"round {n}" for n in range(13))]
    assert result.accuracy_after["round 12"] == result.robust.mean()
    lines = repr(result).splitlines()
    assert lines[0] == f"run_adaptive_autoattack: {norm}, epsilon {result.setting.epsilon:.6g}"
    assert lines[-1].split()[:2] == ["round", "12"]
    assert f"{100 * result.robust.mean():.1f}" in lines[-1].split()
    assert [p.done for p in told] == list(range(1, 14))
    assert told[-1].figures["robust"] == result.robust.sum()


def test_all_and_none_are_left():
    result = run(labels=(LABELS + 1) % 5)
    assert not result.robust.any()
    assert set(result.num_attacked.values()) == {0}
    assert run(epsilon=1e-4).robust.all()


def test_batches_order_and_devices_do_not_matter():
    order = np.random.default_rng(1).permutation(len(LABELS))
    one = run(batch_size=24)
    other = run(
        images=np.asarray(IMAGES)[order],
        labels=np.asarray(LABELS)[order],
        example_ids=np.arange(len(LABELS))[order],
        batch_size=8,
        devices=jax.local_devices(),
    )
    np.testing.assert_array_equal(other.robust, one.robust[order])
    np.testing.assert_allclose(other.images, one.images[order], atol=1e-5)


def test_images_that_look_hopeless_are_left_out(monkeypatch):
    """From the fourth round on a share of the robust ones, those with the largest margins."""
    monkeypatch.setattr(rounds, "_FEWEST", 2)
    attacked, climb = [], Rounds._climb

    def watched(self, part, drawn, rank, key, rows, name):
        attacked.append((part, rows, self._margins.copy(), self.robust.copy()))
        return climb(self, part, drawn, rank, key, rows, name)

    monkeypatch.setattr(Rounds, "_climb", watched)
    result = run()
    assert len(attacked) == 13
    for number, (part, rows, margins, robust) in enumerate(attacked):
        left = np.flatnonzero(robust)
        count = len(left) if number < 3 else max(2, int(part.share * len(left)))
        assert len(rows) == count
        assert result.num_attacked[f"round {number}"] == count
        others = np.setdiff1d(left, rows)
        assert not len(others) or margins[rows].min() >= margins[others].max()
    assert len(attacked[-1][1]) == 2
    # A margin is the largest so far, and the attack raises it.
    margins = np.array([before for _, _, before, _ in attacked])
    assert np.all(np.diff(margins, axis=0) >= 0)
    assert np.all(margins[1] > margins[0])


def test_first_steps_climb_the_direction():
    """Two steps of epsilon lead a linear model to the corner where <w, z> is largest."""
    asked = []

    def watched(images):
        jax.debug.callback(lambda x: asked.append(np.asarray(x)), images)
        return linear(LOGITS_FN.args[0], images)

    keys, epsilon = prng.per_example(KEY, jnp.arange(len(LABELS))), jnp.full(len(LABELS), 1e-4)
    task = Task(keys, IMAGES, LABELS, None)
    model = as_classifier(watched)
    steps = jnp.int32(2), jnp.int32(0)
    found = rounds._search("linf", model, task, LABELS, epsilon, rounds.ANY, *steps)
    jax.effects_barrier()
    slopes = np.asarray(found.weights) @ np.asarray(LOGITS_FN.args[0]).T
    corner = IMAGES + 1e-4 * np.sign(slopes).reshape(IMAGES.shape)
    np.testing.assert_allclose(asked[2], corner, atol=1e-6)
    assert int(found.num_passes) == 2
    assert not np.any(found.early)


def test_where_few_are_left_each_is_attacked_more_often():
    """One of 24: twice in each round, as one more repeat is set above."""
    epsilon = float(np.sort(distances("linf"))[-2:].mean())
    result = run(epsilon=epsilon, keep_images=False)
    assert result.robust.sum() == 1
    assert len(result.adversarial_rows) == len(LABELS) - 1
    assert result.images is result.adversarial is result.originals is None
    assert result.num_attacked["round 12"] == 2


def test_directions_that_led_somewhere_are_remembered(monkeypatch):
    """The sums over those fooled in round 1, before which there is but a random start."""
    beginning = Round(1.0, 0, 0), *rounds.BEGINNING[1:]
    monkeypatch.setattr(rounds, "BEGINNING", beginning)
    asked, climbed, directions, learn = [], [], rounds.directions, Rounds._learn

    def watched(num_classes, **options):
        asked.append(options)
        return directions(num_classes, **options)

    def learning(self, number, rows, found):
        climbed.append((rows, found["predictions"]))
        learn(self, number, rows, found)

    monkeypatch.setattr(rounds, "directions", watched)
    monkeypatch.setattr(Rounds, "_learn", learning)
    run()
    rows, classes = climbed[1]
    rows, classes = (x[classes != np.asarray(LABELS)[rows]] for x in (rows, classes))
    assert len(rows) > 5
    keys = prng.per_example(prng.fold_in(prng.named(KEY, "adaptive_autoattack"), 1), rows)
    weights = np.asarray(rounds._weights(keys, LABELS[rows], LABELS[rows], rounds.ANY, 5))
    places = np.arange(len(rows))
    assert asked[0]["right"] == pytest.approx(weights[places, LABELS[rows]].sum(), abs=1e-4)
    assert asked[0]["wrong"] == pytest.approx(weights[places, classes].sum(), abs=1e-4)


def test_passes_are_counted():
    looked = []

    def watched(weights, images):
        jax.debug.callback(lambda x: looked.append(len(x)), images)
        return linear(weights, images)

    result = run(model=Partial(watched, LOGITS_FN.args[0]), batch_size=1)  # no padding
    jax.effects_barrier()
    assert result.forwards == sum(looked)
    # All but the clean images, the last look and the verdict of each climb.
    assert 0 < result.backwards < result.forwards
    assert result.forwards - result.backwards < 0.2 * result.forwards


def test_it_goes_on_where_it_was(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(told):
        if told.done == 4:
            raise StoppedError

    whole = run()
    with pytest.raises(StoppedError):
        run(journal=tmp_path, progress=stop)
    again = run(journal=tmp_path)
    for one, other in zip(vars(whole).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"belongs to a run with attack"):
        run(journal=tmp_path, epsilon=0.01)


def test_it_is_an_entry_of_a_suite():
    suite = {"a3": attacks.create("adaptive_autoattack", epsilon=between("linf"))}
    options: Any = {"devices": ONE, "keep_images": True}
    result = attacks.run_attacks(LOGITS_FN, KEY, IMAGES, LABELS, attacks=suite, **options)
    logits = np.asarray(LOGITS_FN(result.outcomes["a3"].images))
    np.testing.assert_array_equal(result.outcomes["a3"].predictions, np.argmax(logits, axis=1))
    shares = np.asarray(jax.nn.softmax(logits)).max(axis=1)
    np.testing.assert_allclose(result.outcomes["a3"].probability, shares, rtol=1e-4)
    np.testing.assert_array_equal(result.worst, distances("linf") >= between("linf"))
    assert result.outcomes["a3"].details["backwards"] > 0


@pytest.mark.parametrize(
    ("wrong", "right", "options", "expected"),
    [
        (3.0, 2.0, {}, (-0.1, 0.5, 0.8)),
        (-3.0, 2.0, {}, (-0.1, 0.5, -0.8)),
        (-3.0, -2.0, {}, (-0.5, 0.1, -0.8)),
        (3.0, -2.0, {}, (-0.5, 0.1, 0.8)),
        (3.0, 2.0, {"is_last": True}, (-0.8, 0.1, 0.8)),
        (-3.0, 2.0, {"is_misled": True}, (-0.1, 0.5, 0.8)),
        (-3.0, 2.0, {"is_misled": True, "is_last": True}, (0.0, 0.0, 0.8)),
        (-3.0, 2.0, {"num_classes": 100}, (-5.0, 1.0, 8.0)),
    ],
)
def test_directions_have_the_signs_of_those_that_led_somewhere(wrong, right, options, expected):
    options = {"num_classes": 10, "is_misled": False, "is_last": False, **options}
    found = rounds.directions(wrong=wrong, right=right, **options)
    np.testing.assert_allclose(found, expected)


def test_the_weights_of_a_direction():
    """Uniform in [-1, 1) of 4,000 images and 5 classes, but for two of them."""
    keys = prng.per_example(KEY, jnp.arange(4000))
    labels, targets = jnp.arange(4000) % 5, (jnp.arange(4000) + 2) % 5
    free = np.asarray(rounds._weights(keys, labels, targets, rounds.ANY, 5))
    assert np.all(np.abs(free) <= 1)
    assert np.all(np.abs(free.mean(axis=0)) < 5 / np.sqrt(3 * 4000))
    assert np.all(np.abs((free**2).mean(axis=0) - 1 / 3) < 5 * np.sqrt(4 / 45 / 4000))
    assert np.all(free != 0)
    drawn = rounds._weights(keys, labels, targets, Directions(-0.5, 0.1, 0.8), 5)
    rows = np.arange(4000)
    np.testing.assert_allclose(drawn[rows, targets], 0.8)
    own = np.asarray(drawn[rows, labels])
    assert (own.min() >= -0.5) & (own.max() <= 0.1)
    assert abs(own.mean() + 0.2) < 5 * 0.6 / np.sqrt(12 * 4000)
    others = np.asarray(drawn) == free
    np.testing.assert_array_equal(others.sum(axis=1), np.full(4000, 3))


def test_ranks_and_rounds():
    assert [rounds.num_ranks(k) for k in (2, 5, 10, 43, 1000)] == [1, 4, 9, 14, 20]
    assert [rounds.num_ranks(k, is_last=True) for k in (2, 10, 43)] == [1, 4, 14]
    assert rounds.NUM_ROUNDS == 13
    assert all(isinstance(part, Round) and part.share <= 1 for part in rounds.USUAL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 8}, "epsilon is 8.0; with norm 'linf'"),
        ({"epsilon": None}, "epsilon is None; it must be a number"),
        ({"norm": "l1", "epsilon": 1.0}, "norm 'l1' is unknown; allowed: linf, l2"),
        ({"images": IMAGES[:3]}, "labels has shape"),
        ({"eps": 0.1}, "did you mean 'epsilon'"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)
