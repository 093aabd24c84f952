"""What every attack must do, as a check that an attack of one's own can be put to.

All checks call one linear model on one shape and differ in its weights alone, so that an attack
compiles few times. A linear model's margin falls by epsilon times the dual norm of its weights at
most, which says exactly how strong an attack must be.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from rbjax import prng
from rbjax.attacks.attack import Threat
from rbjax.attacks.norms import NORMS
from rbjax.tables import is_made, lookup
from rbjax.typing import Array, AttackResult

SHAPE = (6, 6, 1)
NUM_CLASSES = 5
EPSILON = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 3.0}
LABELS = jnp.array([0, 1, 2, 3, 4, 2, 0, 1])
TARGETS = (LABELS + 1) % NUM_CLASSES
KEYS = prng.per_example(prng.key(3), jnp.arange(100, 108))
_DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
_ORDER = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}


class Strength(NamedTuple):
    """How strong an attack claims to be against a linear model."""

    least: float = 0.97
    """Share of the largest possible fall of the margin that it reaches on every image."""
    mean: float = 0.97
    """The same, on average over the images."""
    reach: float = 1.0
    """How many epsilons it may move; more than 1 where steps are not projected."""
    minimum_norm: bool = False
    """Whether it looks for the smallest perturbation: it leaves alone what is already wrong or out
    of reach, and moves the rest just across the boundary."""
    stops_when_fooled: bool = False
    """Whether an image that is fooled is not moved any further."""


def check_attack(
    attack: Any,
    *,
    strength: Strength | None = None,
    targeted: bool = True,
    norm: str | None = None,
    epsilon: float | None = None,
    num_devices: int | None = None,
) -> None:
    """Puts an attack to everything that rbjax's own attacks are held to.

    It stays in the set it declares; epsilon 0 changes nothing, for one example too; it fools what
    can be fooled on a linear model, where the answer is known; targets are approached; an example's
    result depends on neither its row, the batch, `jit` nor the number of devices, where there are
    several; flat and steep models give finite numbers.

    An attack may be a plain function, as `run_attacks` and the config take it.  What set it keeps
    is then what `norm` and `epsilon` say.  If it takes no `epsilon` of its own, what is checked at
    other radii is checked at its own: that it stays in the set, and that the margin falls.

    Args:
        attack: made by a maker, `attack(logits_fn, keys, images, labels, *, targets, epsilon)`
            -> AttackResult, with `attack.threat` the set it declares; or one without them.
        strength: what it claims to reach; None: all but 3 % of the largest possible fall.
        targeted: whether it takes `targets`.
        norm: "linf", "l2", "l1" or "l0", of an attack without `threat`; None: no set is checked.
        epsilon: its radius in that norm; None: it has no ball.
        num_devices: how many local devices are compared with one: 1, 2, 4 or 8; None: as many as
            there are.  With 1 nothing is compared, of which None warns.

    Raises:
        AssertionError: for whatever it does not do, beginning with the check's name.
        ValueError: for an unknown norm, or if there are not as many devices.
    """
    attack = _declared(attack, norm, epsilon)
    num_devices = choose_num_devices(num_devices, "check_attack")
    _check_result(attack)
    if attack.threat is not None:
        check_set(attack)
    if attack.threat is not None and _takes(attack, "epsilon"):
        check_epsilon_zero(attack, strength=strength)
        check_margin(attack, strength=strength)
        check_budget(attack, strength=strength)
    else:
        check_fall(attack)
    if targeted:
        check_targets(attack, strength=strength)
    check_order(attack)
    check_batch(attack)
    check_jit(attack)
    if num_devices > 1:
        check_devices(attack, num_devices=num_devices)
    check_finite(attack)


class Declared(NamedTuple):
    """A plain function as an attack that declares a set, or none."""

    function: Callable[..., Any]
    threat: Threat | None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Returns what the function does."""
        return self.function(*args, **options)


def _declared(attack: Any, norm: str | None, epsilon: float | None) -> Any:
    if not callable(attack) or isinstance(attack, type):
        raise AssertionError(
            "check_attack: an attack is called as attack(logits_fn, keys, images, labels) -> "
            f"AttackResult, such as attacks.pgd(epsilon=0.1); this is {attack!r}"
        )
    if hasattr(attack, "threat"):
        return attack
    if norm is None:
        return Declared(attack, None)
    lookup(NORMS, norm, what="norm")
    return Declared(attack, Threat(norm, epsilon, box=True))


def _takes(attack: Any, name: str) -> bool:
    """Whether an attack has a keyword."""
    function = attack.function if isinstance(attack, Declared) else attack
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_result(attack: Any) -> None:
    """Checks that it can be called as an attack, and returns what an attack returns."""
    call = "attack(logits_fn, keys, images, labels)"
    try:
        result = attack(model(), KEYS, make_images(), LABELS)
    except (TypeError, ValueError) as error:
        function = attack.function if isinstance(attack, Declared) else attack
        if isinstance(error, ValueError) and is_made(function, 4):
            raise
        raise AssertionError(
            f"check_attack: cannot be called as {call}; a maker has to be called first, with its "
            f"options: {error}"
        ) from error
    right = isinstance(result, AttackResult)
    assert right, f"check_attack: {call} returns a {type(result).__name__}, not an AttackResult"


def choose_num_devices(num_devices: int | None, check: str) -> int:
    """Returns how many local devices a check compares with one; None: as many as there are."""
    flag = "XLA_FLAGS=--xla_force_host_platform_device_count=8"
    if num_devices is None:
        num_devices = max(n for n in (1, 2, 4, 8) if n <= jax.local_device_count())
        if num_devices == 1:
            warnings.warn(
                f"{check}: there is one local device, so that several are not compared with it; "
                f"start Python with {flag}, or leave that out by num_devices=1",
                stacklevel=3,
            )
    if num_devices not in (1, 2, 4, 8) or num_devices > jax.local_device_count():
        raise ValueError(
            f"num_devices = {num_devices}: must be 1, 2, 4 or 8, and at most the "
            f"{jax.local_device_count()} local devices; on a CPU start Python with {flag}"
        )
    return num_devices


def model(scale: float = 1.0, bias: tuple[float, ...] = (0.0,) * NUM_CLASSES) -> Partial:
    """Returns the linear model of the checks, `z = scale W x + b`."""
    weights = prng.normal(prng.key(0), (36, NUM_CLASSES))
    return Partial(_linear, {"w": scale * weights, "b": jnp.array(bias, jnp.float32)})


def _linear(variables: dict[str, Array], images: Array) -> Array:
    return images.reshape(images.shape[0], -1) @ variables["w"] + variables["b"]


def make_images(low: float = 0.0, high: float = 1.0) -> Array:
    """Returns eight images that reach both edges of [low, high]."""
    images = prng.uniform(prng.key(1), (8, *SHAPE), minval=low, maxval=high)
    return images.at[:, 0].set(low).at[:, 1].set(high)


def check_set(attack: Any) -> None:
    """Checks that the images stay in the ball and the box that the attack declares."""
    images, norm = make_images(), attack.threat.norm
    epsilon = EPSILON[norm] * jnp.linspace(0.1, 1.0, 8)
    radii: list[tuple[Any, dict[str, Any]]] = [(attack.threat.epsilon, {})]
    if _takes(attack, "epsilon"):
        radii.insert(0, (epsilon, {"epsilon": epsilon}))
    for radius, options in radii:
        moved = attack(model(), KEYS, images, LABELS, **options).images
        if attack.threat.epsilon is not None:
            flat = np.asarray(moved - images, np.float64).reshape(8, -1)
            sizes = np.linalg.norm(flat, _ORDER[norm], axis=1)
            assert np.all(sizes <= radius + 1e-6), f"check_set: sizes {sizes} exceed {radius}"
        if attack.threat.box:
            inside = np.all((moved >= 0) & (moved <= 1))
            assert inside, "check_set: images leave [0, 1], which the attack declares to keep"


def check_epsilon_zero(attack: Any, *, strength: Strength | None = None) -> None:
    """Checks that nothing moves where epsilon is 0, and something where it is not."""
    images, strength = make_images(), strength or Strength()
    for epsilon in (0.0, jnp.zeros(8)):
        still = attack(model(), KEYS, images, LABELS, epsilon=epsilon).images
        assert np.array_equal(still, images), "check_epsilon_zero: images move at epsilon 0"
    epsilon = jnp.where(jnp.arange(8) == 3, 0.0, EPSILON[attack.threat.norm])
    result = attack(model(), KEYS, images, LABELS, epsilon=epsilon)
    moved = np.any(np.asarray(result.images != images), axis=(1, 2, 3))
    assert not moved[3], "check_epsilon_zero: the one image with epsilon 0 moves"
    if strength.minimum_norm:
        assert moved.any(), "check_epsilon_zero: no image moves"
    else:
        assert np.array_equal(moved, epsilon > 0), "check_epsilon_zero: an image does not move"


def check_margin(attack: Any, *, strength: Strength | None = None) -> None:
    """Checks the fall of a linear model's margin, `epsilon * dual norm of the weights` at most."""
    strength, norm = strength or Strength(), attack.threat.norm
    # The other classes are out of reach, so that cross-entropy's gradient is along w_y - w_other.
    weights = np.asarray(model(scale=0.05).args[0]["w"], np.float64)
    centred = tuple(-0.5 * weights[:, :2].sum(axis=0))
    logits_fn = model(scale=0.05, bias=(*centred, -1e4, -1e4, -1e4))
    # In l0 one value alone takes any of the grey images across the boundary.
    images = make_images() if norm == "l0" else make_images(0.45, 0.55)
    labels = jnp.argmax(logits_fn(images), axis=-1).at[0].add(1) % 2  # the first one is wrong
    weights = weights[:, 0] - weights[:, 1]

    def margins(images: Array) -> np.ndarray:
        sign = np.where(np.asarray(labels) == 0, 1.0, -1.0)
        return sign * ((np.asarray(images, np.float64).reshape(8, -1) - 0.5) @ weights)

    before, dual = margins(images), np.linalg.norm(weights, _DUAL.get(norm))
    epsilon = 1.05 * np.median(before[before > 0]) / dual
    most = np.full(8, epsilon * dual * strength.reach)
    if norm == "l0":
        epsilon, most = 1.0, _most_by_one_value(images, labels, weights)
    result = attack(logits_fn, KEYS, images, labels, epsilon=epsilon)
    after, fooled = margins(result.images), result.fooled
    fall = before - after
    assert np.array_equal(fooled, after < 0), "check_margin: `fooled` is not what the images say"
    assert np.all(fall <= most * (1 + 2e-3)), f"check_margin: fall {fall} of at most {most}"
    reachable = np.abs(before - most) > (1 - strength.least) * most
    if strength.least > 0.5:
        expected = (before < most)[reachable]
        assert np.array_equal(fooled[reachable], expected), "check_margin: fools other images"
    if strength.minimum_norm:
        moved = np.any(np.asarray(result.images != images), axis=(1, 2, 3))
        correct = np.asarray(fooled & (before > 0))
        assert np.array_equal(moved, correct), "check_margin: moves what it need not or cannot"
        far = fall[moved] <= before[moved] + 0.1 * most[moved]
        # Of one value whatever it becomes is as near.
        assert np.all(far) or norm == "l0", "check_margin: moves further than the boundary"
        return
    counted = ~np.asarray(fooled) if strength.stops_when_fooled else np.ones(8, bool)
    least = fall[counted] >= strength.least * most[counted]
    assert np.all(least), f"check_margin: fall {fall[counted]}, possible is {most[counted]}"
    average = fall[counted].mean() >= strength.mean * most[counted].mean()
    assert average, "check_margin: too weak on average"


def _most_by_one_value(images: Array, labels: Array, weights: np.ndarray) -> np.ndarray:
    """Returns how far a margin falls if the best value goes to the edge of the box, (8,)."""
    falls = np.where(np.asarray(labels) == 0, 1.0, -1.0)[:, None] * weights
    flat = np.asarray(images, np.float64).reshape(8, -1)
    return np.max(np.abs(falls) * np.where(falls > 0, flat, 1 - flat), axis=1)


def check_budget(attack: Any, *, strength: Strength | None = None) -> None:
    """Checks that in l1 nothing is spent on what [0, 1] cuts off.

    On images with most pixels at 0 or 1 a linear model's margin falls as far as it can if pixels
    move in the order of the weights, each up to the edge. In other norms nothing is checked: there
    the box takes nothing from the other pixels.
    """
    strength, threat = strength or Strength(), attack.threat
    if threat.norm != "l1" or not threat.box or threat.epsilon is None or strength.minimum_norm:
        return
    weights = np.asarray(model(scale=0.05).args[0]["w"], np.float64)
    logits_fn = model(scale=0.05, bias=(0.0, 0.0, -1e4, -1e4, -1e4))
    images, slopes = jnp.round(make_images()), weights[:, 1] - weights[:, 0]
    result = attack(logits_fn, KEYS, images, jnp.zeros(8, jnp.int32), epsilon=EPSILON["l1"])
    flat = np.asarray(images, np.float64).reshape(8, -1)
    fall = (np.asarray(result.images, np.float64).reshape(8, -1) - flat) @ slopes
    # Pixels at an edge, so that one moves by 1 or cannot be of use.
    gains = np.abs(slopes) * np.where(slopes > 0, 1 - flat, flat)
    most = np.sort(gains, axis=1)[:, -int(EPSILON["l1"]) :].sum(axis=1)
    counted = ~np.asarray(result.fooled) if strength.stops_when_fooled else np.ones(8, bool)
    least = np.all(fall[counted] >= strength.least * most[counted])
    assert least, f"check_budget: fall {fall[counted]}, possible in [0, 1] is {most[counted]}"


def check_fall(attack: Any) -> None:
    """Checks that the margin falls on a linear model, and that `fooled` says what is wrong.

    Of attacks that cannot be asked for another radius.
    """
    images, logits_fn = make_images(), model(scale=0.05)
    labels = jnp.argmax(logits_fn(images), axis=-1)

    def margin(images: Array) -> np.ndarray:
        logits = np.asarray(logits_fn(images), np.float64)
        own = logits[np.arange(8), labels]
        logits[np.arange(8), labels] = -np.inf
        return own - logits.max(axis=1)

    result = attack(logits_fn, KEYS, images, labels)
    predictions = jnp.argmax(logits_fn(result.images), axis=-1)
    wrong = np.array_equal(result.fooled, predictions != labels)
    assert wrong, "check_fall: `fooled` is not what the images say"
    falls = margin(result.images).mean() < margin(images).mean()
    assert falls, "check_fall: the margin does not fall"


def check_targets(attack: Any, *, strength: Strength | None = None) -> None:
    """Checks that targets are approached, and that `fooled` says which are reached."""
    images, logits_fn = make_images(), model()
    # The smallest perturbation to a target may be large.
    large = 4.0 if attack.threat is not None and attack.threat.norm in ("l1", "l0") else 1.0
    epsilon = large if strength is not None and strength.minimum_norm else None
    at = {"epsilon": epsilon} if _takes(attack, "epsilon") else {}
    try:
        result = attack(logits_fn, KEYS, images, LABELS, targets=TARGETS, **at)
    except TypeError as error:
        raise AssertionError(
            "check_targets: it takes no `targets`; leave this out by targeted=False"
        ) from error
    predictions = jnp.argmax(logits_fn(result.images), axis=-1)
    if at:
        untouched = attack(logits_fn, KEYS, images, LABELS, targets=TARGETS, epsilon=0.0)
        assert result.fooled.sum() > untouched.fooled.sum(), "check_targets: none is reached"
        rises = np.mean(result.loss) > np.mean(untouched.loss)
        assert rises, "check_targets: the loss does not rise"
    else:
        before = jax.nn.log_softmax(logits_fn(images))[jnp.arange(8), TARGETS]
        after = jax.nn.log_softmax(logits_fn(result.images))[jnp.arange(8), TARGETS]
        assert after.mean() > before.mean(), "check_targets: none is approached"
    reached = predictions == TARGETS
    assert np.array_equal(result.fooled, reached), "check_targets: `fooled` is not the target"
    assert np.array_equal(result.predictions, predictions), "check_targets: wrong `predictions`"


def check_order(attack: Any) -> None:
    """Checks that an example has the same image at any row."""
    images, order = make_images(), jnp.array([5, 2, 7, 0, 1, 6, 3, 4])
    first = attack(model(), KEYS, images, LABELS)
    moved = attack(model(), KEYS[order], images[order], LABELS[order])
    for one, other in zip(first, moved, strict=True):
        assert np.array_equal(one[order], other), "check_order: depends on the row"


def check_batch(attack: Any) -> None:
    """Checks that an example has the same image in a smaller batch."""
    images = make_images()
    whole = attack(model(), KEYS, images, LABELS).images
    few = attack(model(), KEYS[:3], images[:3], LABELS[:3]).images
    assert np.allclose(few, whole[:3], rtol=0, atol=1e-5), "check_batch: depends on the batch"


def check_jit(attack: Any) -> None:
    """Checks that it is part of a caller's compiled program."""
    images = make_images()
    eager = attack(model(), KEYS, images, LABELS)
    jitted = jax.jit(lambda f, k, x, y: attack(f, k, x, y))(model(), KEYS, images, LABELS)
    close = np.allclose(jitted.images, eager.images, rtol=0, atol=1e-6)
    assert close, "check_jit: another image"
    assert np.array_equal(jitted.fooled, eager.fooled), "check_jit: others are fooled"
    assert np.allclose(jitted.loss, eager.loss, rtol=1e-5, atol=0), "check_jit: another loss"


def check_devices(attack: Any, *, num_devices: int | None = None) -> None:
    """Checks that several local devices, by default all, give what one gives."""
    num_devices = choose_num_devices(num_devices, "check_devices")
    mesh = Mesh(np.asarray(jax.local_devices()[:num_devices]), ("data",))
    images, sharding = make_images(), NamedSharding(mesh, PartitionSpec("data"))
    one = attack(model(), KEYS, images, LABELS)
    several = attack(model(), *jax.device_put((KEYS, images, LABELS), sharding))
    close = np.allclose(several.images, one.images, rtol=0, atol=1e-5)
    assert close, f"check_devices: another image on {num_devices} devices"
    assert np.array_equal(several.fooled, one.fooled), "check_devices: others are fooled"


def check_finite(attack: Any) -> None:
    """Checks that flat and steep models give finite images and losses."""
    for scale in (0.0, 1e-30, 1e6, 1e30):
        result = attack(model(scale), KEYS, make_images(), LABELS)
        finite = all(np.all(np.isfinite(part)) for part in result)
        assert finite, f"check_finite: not with logits times {scale:g}"
