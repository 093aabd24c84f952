"""What every entry of `ATTACKS` must do, and that a wrong attack does not pass.

An attack is tested by being listed. The checks are those of `rbjax.testing`, which mutants are fed
to at the end.
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
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rbjax import attacks, testing
from rbjax.attacks.apgd_l1 import APGDL1Plan
from rbjax.attacks.carlini_wagner import CarliniWagnerPlan
from rbjax.attacks.ddn import DDNPlan
from rbjax.attacks.deepfool import DeepFoolPlan
from rbjax.attacks.fab import FABPlan
from rbjax.attacks.fmn import FMNPlan
from rbjax.attacks.gradient import GradientPlan
from rbjax.attacks.norms import NORMS
from rbjax.attacks.square import SquarePlan
from rbjax.testing import Strength
from rbjax.testing import attacks as suite
from rbjax.testing.attacks import (
    EPSILON,
    KEYS,
    LABELS,
    TARGETS,
    check_batch,
    check_budget,
    check_epsilon_zero,
    check_finite,
    check_jit,
    check_margin,
    check_order,
    check_set,
    check_targets,
    make_images,
    model,
)
from rbjax.typing import AttackResult

QUICK = {
    "apgd": {"num_steps": 40},
    "apgd_targeted": {"num_steps": 40, "num_targets": 4},
    "fab": {"num_steps": 20, "num_targets": 4},
    "square": {"num_queries": 3000},
    "ddn": {"num_steps": 100},
    "fmn": {"num_steps": 100},
    "carlini_wagner": {"num_steps": 200, "search_steps": 6, "learning_rate": 0.02},
}
"""Options that an attack needs for five classes, or to be quick on 36 pixels."""

NORM_ERROR = r"norm '\w+' is unknown"


def settings():
    """Yields a name and options for every maker and every norm it knows, and a few besides."""
    for name, maker in attacks.compiled().items():
        quick = QUICK.get(name, {})
        if "norm" not in inspect.signature(maker).parameters:
            norm = attacks.create(name, **quick).threat.norm
            yield pytest.param(name, {"epsilon": EPSILON[norm], **quick}, id=f"{name}-{norm}")
            continue
        for norm in NORMS:
            options = {"norm": norm, "epsilon": EPSILON[norm], **quick}
            if "num_steps" in inspect.signature(maker).parameters:
                options.setdefault("num_steps", 60 if norm == "l2" else 10)
            if knows(name, options):
                yield pytest.param(name, options, id=f"{name}-{norm}")
    sign = {"norm": "linf", "epsilon": 0.02, "projected": False, "num_steps": 3}
    yield pytest.param("iterative_gradient_sign", sign, id="unprojected")
    yield pytest.param("iterative_gradient_sign", {**sign, "clipped": False}, id="unclipped")
    pgd = {"norm": "linf", "epsilon": 0.1, "num_steps": 10}
    yield pytest.param("pgd", {**pgd, "loss": "margin"}, id="pgd-margin")
    yield pytest.param("pgd", {**pgd, "loss": "probability_margin"}, id="pgd-probability-margin")
    # In l2: signs of a ratio's gradient turn with the last bit where it is almost 0.
    dlr = {"norm": "l2", "epsilon": 0.5, "num_steps": 60, "loss": "dlr"}
    yield pytest.param("pgd", dlr, id="pgd-dlr")
    restarts = {**dlr, "num_restarts": 3, "loss": "margin"}
    yield pytest.param("pgd", restarts, id="restarts")
    for start in ("sphere", "normal", "half_signs"):
        yield pytest.param("pgd", {**pgd, "start": start, "use_best": True}, id=start)
    yield pytest.param("pgd", {**pgd, "momentum": 1.0}, id="momentum")
    yield pytest.param("pgd", {**pgd, "optimizer": "adam"}, id="adam")
    fab = {"norm": "linf", "epsilon": 0.1, "num_steps": 20, "num_restarts": 2}
    yield pytest.param("fab", {**fab, "num_targets": 0}, id="fab-untargeted")


def knows(name: str, options: dict[str, Any]) -> bool:
    """Returns whether an attack knows a norm; any other complaint is raised."""
    try:
        attacks.create(name, **options)
    except ValueError as error:
        if not re.search(NORM_ERROR, str(error)):
            raise
        return False
    return True


SETTINGS = list(settings())


def by_weight():
    """Yields all settings, those marked that share their code with one that is not.

    Of attacks by gradient steps these are all but PGD in each norm and the first of each name.
    """
    seen = set()
    for setting in SETTINGS:
        values: Any = setting.values
        name, options = values
        is_listed = set(options) <= set(attacks.ATTACKS.options(name))
        plan: Any = attacks.create(name, **options).plan if is_listed else None
        is_plain = name != "pgd" or set(options) == {"norm", "epsilon", "num_steps"}
        shares = name in seen and not (name == "pgd" and is_plain)
        if isinstance(plan, GradientPlan) and shares:
            yield pytest.param(name, options, id=setting.id, marks=pytest.mark.full_size)
        else:
            yield setting
        seen.add(name)


every_setting = pytest.mark.parametrize(("name", "options"), list(by_weight()))


def one_of_each_kind():
    """Yields the first setting of every plan and norm, which the others differ from in options."""
    seen = set()
    for setting in SETTINGS:
        values: Any = setting.values
        if not set(values[1]) <= set(attacks.ATTACKS.options(values[0])):
            continue  # a test's own, listed to see that it is here
        plan: Any = attacks.create(values[0], **values[1]).plan
        kind = type(plan), type(getattr(plan, "finder", None)), plan.norm
        if kind not in seen:
            yield setting
        seen.add(kind)


def strength(attack) -> Strength:
    """What an attack of ours claims against a linear model."""
    plan = getattr(attack.plan, "finder", attack.plan)
    if isinstance(plan, (FABPlan, DeepFoolPlan, DDNPlan, FMNPlan, CarliniWagnerPlan)):
        return Strength(minimum_norm=True)
    if isinstance(plan, APGDL1Plan):  # in 40 steps; it moves from the second best pixel slowly
        return Strength(least=0.95, mean=0.97)
    if isinstance(plan, SquarePlan):  # whose squares but in l-inf have three pixels a side
        least = 0.97 if plan.norm == "linf" else 0.7
        return Strength(least=least, mean=least, stops_when_fooled=True)
    if getattr(plan, "start", None) == "half_signs" and plan.num_steps == 1:
        return Strength(least=0.0, mean=0.4)
    reach = plan.num_steps if getattr(plan, "ball", True) is False else 1
    return Strength(least=0.998, mean=0.998, reach=reach)


def check_half_on_four_devices(attack):
    """Checks that half of the images, on four devices, are what they are among all, on one.

    What `check_batch` and `check_devices` ask, of one more program.
    """
    mesh = Mesh(np.asarray(jax.local_devices()[:4]), ("data",))
    images, sharding = make_images(), NamedSharding(mesh, PartitionSpec("data"))
    one = attack(model(), KEYS, images, LABELS)
    several = attack(model(), *jax.device_put((KEYS[:4], images[:4], LABELS[:4]), sharding))
    assert len(several.images.sharding.device_set) == 4
    close = np.allclose(several.images, one.images[:4], rtol=0, atol=1e-5)
    assert close, "check_half_on_four_devices: another image"
    same = np.array_equal(several.fooled, one.fooled[:4])
    assert same, "check_half_on_four_devices: others are fooled"


CHECKS = (
    check_set,
    check_epsilon_zero,
    check_margin,
    check_budget,
    check_targets,
    check_order,
    check_half_on_four_devices,
    check_finite,
)


@every_setting
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(name, options, check):
    attack = attacks.create(name, **options)
    takes_strength = "strength" in inspect.signature(check).parameters
    check(attack, **({"strength": strength(attack)} if takes_strength else {}))


@pytest.mark.parametrize(("name", "options"), list(one_of_each_kind()))
def test_contract_inside_jit(name, options):
    check_jit(attacks.create(name, **options))


@every_setting
def test_gradient_steps_bring_most_images_nearer_to_their_targets(name, options):
    attack = attacks.create(name, **options)
    if not isinstance(attack.plan, GradientPlan):
        pytest.skip("only of attacks of gradient steps")
    images = make_images()
    untouched = attack(model(), KEYS, images, LABELS, targets=TARGETS, epsilon=0.0)
    result = attack(model(), KEYS, images, LABELS, targets=TARGETS)
    assert np.mean(result.loss > untouched.loss) > 0.8


@every_setting
def test_answers_that_are_none_and_classes_that_are_masked(name, options):
    """On the program that the checks above have compiled; only weights and biases differ."""
    attack, images = attacks.create(name, **options), make_images()

    def run(bias, **given):
        logits_fn = model(bias=(0.0, 0.0, 0.0, 0.0, bias))
        result = attack(logits_fn, KEYS, images, LABELS, **given)
        assert np.all(np.isfinite(result.images))
        return logits_fn, result

    # A NaN is no class: wrong, and no target.
    result = run(np.nan)[1]
    np.testing.assert_array_equal(result.predictions, np.full(8, -1))
    assert np.all(result.fooled)
    assert not np.any(run(np.nan, targets=TARGETS)[1].fooled)
    # What is said of the images is what the model says of them outside.
    for bias in (0.0, -np.inf):
        logits_fn, result = run(bias)
        np.testing.assert_array_equal(result.predictions, jnp.argmax(logits_fn(result.images), -1))
        np.testing.assert_array_equal(result.fooled, result.predictions != LABELS)
    # A class that is masked switches nothing off: it is one that cannot be reached.
    far = run(-1e4)[1].fooled[LABELS != 4]
    assert np.all(result.fooled[LABELS != 4] >= far)
    assert np.any(far)
    with pytest.raises(ValueError, match=r"logits_fn gives shape \(8, 1\), one logit an image"):
        attack(lambda images: images[:, 0, 0], KEYS, images, LABELS)


def test_suite_runs_every_check(monkeypatch):
    checks = [name for name in dir(suite) if name.startswith("check_")]
    checks.remove("check_attack")
    checks.remove("check_fall")  # of attacks without epsilon
    ran = []
    for check in checks:
        monkeypatch.setattr(suite, check, lambda *_, n=check, **__: ran.append(n))
    testing.check_attack(attacks.fgsm(epsilon=0.1))
    assert sorted(ran) == checks


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
    "by batch": (lambda images, moved: moved if len(moved) == 8 else 0.9 * moved, check_batch),
    "by half": (
        lambda images, moved: moved if len(moved) == 8 else 0.999 * moved,
        check_half_on_four_devices,
    ),
    "by trace": (
        lambda images, moved: 0.9 * moved if isinstance(moved, Tracer) else moved,
        check_jit,
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
    with pytest.raises(AssertionError, match=check.__name__):
        check(Mutant(attack, change))


def test_budget_that_is_lost_at_the_box_fails():
    attack = attacks.fgsm(epsilon=EPSILON["l1"], norm="l1")
    check_budget(attack)
    with pytest.raises(AssertionError, match="check_budget"):
        check_budget(Mutant(attack, lambda images, moved: images + 0.9 * (moved - images)))


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
