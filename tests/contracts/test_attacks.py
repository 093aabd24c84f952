"""What every entry of `ATTACKS` must do, and that a wrong attack does not pass.

An attack is tested by being listed. The checks are functions of an attack, so that mutants can be
fed to them at the end. All of them call one linear model on one shape, and differ in its weights
alone, so that an attack compiles few times.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial

from rbjax import attacks, prng
from rbjax.attacks.carlini_wagner import CarliniWagnerPlan
from rbjax.attacks.deepfool import DeepFoolPlan
from rbjax.attacks.fab import FABPlan
from rbjax.attacks.gradient import GradientPlan
from rbjax.attacks.norms import NORMS
from rbjax.attacks.square import SquarePlan
from rbjax.typing import AttackResult

SHAPE = (6, 6, 1)
NUM_CLASSES = 5
EPSILON = {"linf": 0.1, "l2": 0.5, "l1": 2.0}
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
LABELS = jnp.array([0, 1, 2, 3, 4, 2, 0, 1])
TARGETS = (LABELS + 1) % NUM_CLASSES
KEYS = prng.per_example(jax.random.key(3), jnp.arange(100, 108))


QUICK = {
    "apgd": {"num_steps": 40},
    "apgd_targeted": {"num_steps": 40, "num_targets": 4},
    "fab": {"num_steps": 20, "num_targets": 4},
    "square": {"num_queries": 3000},
    "carlini_wagner": {"num_steps": 200, "search_steps": 6, "learning_rate": 0.02},
}
"""Options that an attack needs for five classes, or to be quick on 36 pixels."""

MINIMUM_NORM = (FABPlan, DeepFoolPlan, CarliniWagnerPlan)

NORM_ERROR = r"norm '\w+' is unknown"


def settings():
    """Yields a name and options for every maker and every norm it knows, and a few besides."""
    for name, maker in attacks.ATTACKS.items():
        quick = QUICK.get(name, {})
        if "norm" not in inspect.signature(maker).parameters:
            norm = attacks.create(name, **quick).threat.norm
            yield pytest.param(name, {"epsilon": EPSILON[norm], **quick}, id=f"{name}-{norm}")
            continue
        for norm in NORMS:
            options = {"norm": norm, "epsilon": EPSILON[norm], **quick}
            if knows(name, options):
                yield pytest.param(name, options, id=f"{name}-{norm}")
    sign = {"norm": "linf", "epsilon": 0.02, "projected": False}
    yield pytest.param("iterative_gradient_sign", sign, id="unprojected")
    yield pytest.param("iterative_gradient_sign", {**sign, "clipped": False}, id="unclipped")
    pgd = {"norm": "linf", "epsilon": 0.1}
    for loss in ("margin", "dlr"):
        yield pytest.param("pgd", {**pgd, "loss": loss}, id=f"pgd-{loss}")
    restarts = {"norm": "l2", "epsilon": 0.5, "num_restarts": 3, "loss": "margin"}
    yield pytest.param("pgd", restarts, id="restarts")
    for start in ("sphere", "normal", "half_signs"):
        yield pytest.param("pgd", {**pgd, "start": start, "use_best": True}, id=start)
    yield pytest.param("pgd", {**pgd, "momentum": 1.0}, id="momentum")
    yield pytest.param("pgd", {**pgd, "optimizer": "adam"}, id="adam")
    fab = {"norm": "linf", "epsilon": 0.1, "num_steps": 20, "num_restarts": 2}
    yield pytest.param("fab", {**fab, "num_targets": None}, id="fab-untargeted")


def knows(name: str, options: dict[str, Any]) -> bool:
    """Returns whether an attack knows a norm; any other complaint is raised."""
    try:
        attacks.create(name, **options)
    except ValueError as error:
        if not re.search(NORM_ERROR, str(error)):
            raise
        return False
    return True


every_setting = pytest.mark.parametrize(("name", "options"), list(settings()))


def linear(variables: dict[str, Any], images):
    return images.reshape(images.shape[0], -1) @ variables["w"] + variables["b"]


def model(scale=1.0, bias=(0.0,) * NUM_CLASSES) -> Partial:
    weights = jax.random.normal(jax.random.key(0), (36, NUM_CLASSES))
    return Partial(linear, {"w": scale * weights, "b": jnp.array(bias)})


def make_images(low=0.0, high=1.0):
    """Returns images that reach the edges of [low, high] where those are 0 and 1."""
    images = jax.random.uniform(jax.random.key(1), (8, *SHAPE), minval=low, maxval=high)
    return images.at[:, 0].set(low).at[:, 1].set(high)


def sizes(norm: str, delta) -> np.ndarray:
    flat = np.asarray(delta, np.float64).reshape(len(delta), -1)
    return np.linalg.norm(flat, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


def check_set(attack):
    images = make_images()
    epsilon = EPSILON[attack.threat.norm] * jnp.linspace(0.1, 1.0, 8)
    result = attack(model(), KEYS, images, LABELS, epsilon=epsilon)
    if attack.threat.epsilon is not None:
        assert np.all(sizes(attack.threat.norm, result.images - images) <= epsilon + 1e-6)
    if attack.threat.box:
        assert np.all((result.images >= 0) & (result.images <= 1))
    # The declared radius is the one that is used where the call gives none.
    result = attack(model(), KEYS, images, LABELS)
    if attack.threat.epsilon is not None:
        size = sizes(attack.threat.norm, result.images - images)
        assert np.all(size <= attack.threat.epsilon + 1e-6)


def check_epsilon_zero(attack):
    images = make_images()
    for epsilon in (0.0, jnp.zeros(8)):
        result = attack(model(), KEYS, images, LABELS, epsilon=epsilon)
        np.testing.assert_array_equal(result.images, images)
    epsilon = jnp.where(jnp.arange(8) == 3, 0.0, EPSILON[attack.threat.norm])
    result = attack(model(), KEYS, images, LABELS, epsilon=epsilon)
    np.testing.assert_array_equal(result.images[3], images[3])
    moved = np.any(np.asarray(result.images != images), axis=(1, 2, 3))
    if looks_for_the_smallest(attack):  # leaves alone what it cannot fool, and what is wrong anyway
        assert moved.sum() > 0
    else:
        np.testing.assert_array_equal(moved, epsilon > 0)


def check_margin(attack):
    """What can be fooled is: a linear model's margin falls by epsilon times the dual norm at most.

    An attack that climbs lets it fall by just that, everywhere. One that looks for the smallest
    perturbation lets it fall by little more than the margin, and leaves alone what is out of reach.
    """
    # The other classes are out of reach, so that cross-entropy's gradient is along w_y - w_other.
    weights = np.asarray(model(scale=0.05).args[0]["w"], np.float64)
    centred = tuple(-0.5 * weights[:, :2].sum(axis=0))
    logits_fn, images = (
        model(scale=0.05, bias=(*centred, -1e4, -1e4, -1e4)),
        make_images(0.45, 0.55),
    )
    labels = jnp.argmax(logits_fn(images), axis=-1).at[0].add(1) % 2  # the first one is wrong
    weights, norm = weights[:, 0] - weights[:, 1], attack.threat.norm

    def margins(images) -> np.ndarray:
        sign = np.where(np.asarray(labels) == 0, 1.0, -1.0)
        return sign * ((np.asarray(images, np.float64).reshape(8, -1) - 0.5) @ weights)

    before, dual = margins(images), np.linalg.norm(weights, DUAL[norm])
    epsilon = 1.05 * np.median(before[before > 0]) / dual
    result = attack(logits_fn, KEYS, images, labels, epsilon=epsilon)
    unprojected = getattr(attack.plan, "ball", True) is False
    fall = epsilon * dual * (attack.plan.num_steps if unprojected else 1)
    after = margins(result.images)
    np.testing.assert_array_equal(result.fooled, after < 0)
    if is_half_random(attack):
        assert np.all((before - after >= 0) & (before - after <= fall * (1 + 1e-5)))
        assert np.mean(before - after) > 0.4 * fall
        return
    is_square = isinstance(attack.plan, SquarePlan)  # whose squares in l2 have three pixels a side
    slack = 0.3 if is_square and norm == "l2" else 0.03
    reachable = np.abs(before - fall) > slack * fall
    np.testing.assert_array_equal(result.fooled[reachable], (before < fall)[reachable])
    assert unprojected or 0 < result.fooled.sum() < 8
    if looks_for_the_smallest(attack):
        moved = np.any(np.asarray(result.images != images), axis=(1, 2, 3))
        np.testing.assert_array_equal(moved, result.fooled & (before > 0))
        assert np.all((before - after)[moved] <= before[moved] + 0.1 * fall)
    else:
        stopped = is_square & np.asarray(result.fooled)
        tolerance = slack if is_square else 2e-3
        np.testing.assert_allclose((before - after)[~stopped], fall, rtol=tolerance)


def looks_for_the_smallest(attack) -> bool:
    """Returns whether it can be made without epsilon, for the smallest perturbation of all."""
    plan = getattr(attack.plan, "finder", attack.plan)
    return isinstance(plan, MINIMUM_NORM)


def is_half_random(attack) -> bool:
    plan = attack.plan
    return getattr(plan, "start", None) == "half_signs" and plan.num_steps == 1


def check_targets(attack):
    images, logits_fn = make_images(), model()
    untouched = attack(logits_fn, KEYS, images, LABELS, targets=TARGETS, epsilon=0.0)
    # The smallest perturbation to a target may be large.
    epsilon = 1.0 if looks_for_the_smallest(attack) else None
    result = attack(logits_fn, KEYS, images, LABELS, targets=TARGETS, epsilon=epsilon)
    if isinstance(attack.plan, GradientPlan):
        assert np.mean(result.loss > untouched.loss) > 0.8
    assert result.fooled.sum() > untouched.fooled.sum()
    assert np.mean(result.loss) > np.mean(untouched.loss)
    predictions = jnp.argmax(logits_fn(result.images), axis=-1)
    np.testing.assert_array_equal(result.fooled, predictions == TARGETS)
    np.testing.assert_array_equal(result.predictions, predictions)


def check_order(attack):
    """The same example gives the same image at any row, and in a smaller batch."""
    images, order = make_images(), jnp.array([5, 2, 7, 0, 1, 6, 3, 4])
    first = attack(model(), KEYS, images, LABELS)
    moved = attack(model(), KEYS[order], images[order], LABELS[order])
    for one, other in zip(first, moved, strict=True):
        np.testing.assert_array_equal(one[order], other)
    few = attack(model(), KEYS[:3], images[:3], LABELS[:3])
    np.testing.assert_allclose(few.images, first.images[:3], atol=1e-5)


def check_jit(attack):
    images = make_images()
    eager = attack(model(), KEYS, images, LABELS)
    jitted = jax.jit(lambda f, k, x, y: attack(f, k, x, y))(model(), KEYS, images, LABELS)
    np.testing.assert_allclose(jitted.images, eager.images, atol=1e-6)
    np.testing.assert_array_equal(jitted.fooled, eager.fooled)
    np.testing.assert_allclose(jitted.loss, eager.loss, rtol=1e-5)


def check_devices(attack):
    """Eight devices that have an image each give what one gives."""
    images, sharding = make_images(), NamedSharding(Mesh(jax.devices(), ("data",)), P("data"))
    one = attack(model(), KEYS, images, LABELS)
    eight = attack(model(), *jax.device_put((KEYS, images, LABELS), sharding))
    np.testing.assert_allclose(eight.images, one.images, atol=1e-5)
    np.testing.assert_array_equal(eight.fooled, one.fooled)


def check_finite(attack):
    """Flat and steep models give finite images, and a constant one no step but the random start."""
    for scale in (0.0, 1e-30, 1e6):
        result = attack(model(scale), KEYS, make_images(), LABELS)
        assert all(np.all(np.isfinite(part)) for part in result)


CHECKS = (
    check_set,
    check_epsilon_zero,
    check_margin,
    check_targets,
    check_order,
    check_jit,
    check_devices,
    check_finite,
)


@every_setting
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(name, options, check):
    steps = inspect.signature(attacks.ATTACKS[name]).parameters.get("num_steps")
    if check is check_margin and steps is not None and name not in QUICK:
        options = {**options, "num_steps": 60 if options.get("norm") == "l2" else 10}
    if options.get("projected") is False and check is check_margin:
        options = {**options, "num_steps": 3}
    check(attacks.create(name, **options))


@dataclasses.dataclass
class Mutant:
    """An attack with something wrong, which still declares the set of the right one."""

    attack: Any
    change: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attack, name)

    def __call__(self, logits_fn, key, images, labels, **options):
        result = self.attack(logits_fn, key, images, labels, **options)
        moved = self.change(images, result.images)
        logits = logits_fn(moved)
        predictions = jnp.argmax(logits, -1)
        return AttackResult(moved, predictions != labels, result.loss, predictions)


MUTANTS = {
    "identity": (lambda images, moved: images, check_margin),
    "reversed": (lambda images, moved: 2 * images - moved, check_margin),
    "weak": (lambda images, moved: images + 0.9 * (moved - images), check_margin),
    "unclipped": (lambda images, moved: jnp.where(moved > 0.5, moved + 0.01, moved), check_set),
    "too far": (lambda images, moved: jnp.clip(2 * moved - images, 0, 1), check_set),
    "never still": (lambda images, moved: jnp.abs(moved - 1e-7), check_epsilon_zero),
    "by row": (
        lambda images, moved: moved * jnp.linspace(0.9, 1, 8)[:, None, None, None],
        check_order,
    ),
    "not finite": (
        lambda images, moved: moved / jnp.where(moved == images, 0.0, 1.0),
        check_finite,
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_attack_fails(mutant):
    change, check = MUTANTS[mutant]
    attack = attacks.pgd(epsilon=0.1)
    check(attack)
    with pytest.raises(AssertionError):
        check(Mutant(attack, change))


def test_descent_fails_as_an_attack():
    with pytest.raises(AssertionError):
        check_margin(attacks.fgsm(epsilon=0.1, direction="descent"))


@every_setting
def test_dtype_and_shape_are_kept(name, options):
    images = make_images().astype(jnp.bfloat16)
    shapes = jax.eval_shape(attacks.create(name, **options), model(), KEYS, images, LABELS)
    assert (shapes.images.shape, shapes.images.dtype) == (images.shape, images.dtype)
    assert (shapes.fooled.shape, shapes.fooled.dtype) == ((8,), bool)
    assert (shapes.loss.shape, shapes.loss.dtype) == ((8,), np.float32)
