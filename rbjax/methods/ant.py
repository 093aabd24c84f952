"""Adversarial noise training: a generator of noise and the classifier play against each other."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import prng
from rbjax.attacks.sphere import step_in_box
from rbjax.convolution import loop_safe
from rbjax.data import Dataset
from rbjax.inputs import to_float
from rbjax.losses.adversarial import cross_entropy
from rbjax.methods.idle import refuse_idle
from rbjax.models.noise_generator import NoiseGenerator, noise_generator
from rbjax.options import MOST, PIXELS, Count, Positive, Range, Share, checked
from rbjax.training.method import Epoch, Method, MethodState, Seen, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn

_RMS = 135 / math.sqrt(224 * 224 * 3)
"""The published distance of 135 for 224 x 224 x 3 values, a value."""
_STEPS_A_CALL, _RESTART_BATCH = 50, 128
_ADAM = optax.scale_by_adam()


@checked
def ant(
    *,
    distance: Annotated[float, Range(low=0.0, high=MOST, unit=PIXELS, norm="l2")] | None = None,
    generator: Literal["1x1", "3x3"] = "1x1",
    clean_share: Share = 0.5,
    replay_share: Share = 0.2,
    generator_learning_rate: Positive = 1e-4,
    restart_learning_rate: Positive = 5e-4,
    restart_steps: Annotated[int, Range(low=0, high=MOST)] = 1000,
    history: Count = 100,
) -> Method:
    """Returns adversarial noise training.

    min_w max_g E loss(f_w(clip(x + n)), y), n = eta g(z), z normal, and eta such that clip(x + n)
    lies at the l2 `distance` from x.  Each image is clean, or has the noise of g, or (replay) that
    of one of two generators drawn for the batch from those saved before.  g climbs the
    cross-entropy of all images of the batch by Adam, at running statistics.  After each epoch a
    generator begins anew, is trained against the classifier as it is, replaces g and is saved; in
    the first epoch nothing is saved yet, and g has the replay's share too.

    That training is done between epochs, not in the steps, because the published one is against a
    classifier that does not move, and has its own number of steps.  It runs on one device, on
    training images drawn from the epoch's key, not augmented.

    Args:
        distance: of a noisy image from the clean one, in l2 (the paper's epsilon); None: 0.348
            times the root of the number of values, which is the published 135 for 224 x 224 x 3
            (19.3 for CIFAR, 9.7 for MNIST).
        generator: "1x1", of each pixel by itself, or "3x3", of its neighbours too.
        clean_share: of the images without noise.
        replay_share: of the images with noise of saved generators; g has the rest.
        generator_learning_rate: g's, Adam's.
        restart_learning_rate: of the generator that begins anew; only where one does.
        restart_steps: its steps, on batches of 128; 0: none begins anew, g itself is saved.
        history: how many generators are kept, the latest ones; only with a replay.

    Returns:
        The method; its state are g, Adam's state, the saved generators and the key of their draws.

    Raises:
        ValueError: if the shares exceed 1, or for options that are set and do nothing.

    Source:
        Rusak et al. 2020, arXiv:2001.06057; shares, rates and restarts as in the authors' code.
    """
    if clean_share + replay_share > 1:
        raise ValueError(
            f"clean_share is {clean_share:g} and replay_share {replay_share:g}; together they must "
            "be at most 1"
        )
    if clean_share == 1:
        refuse_idle(
            ant,
            "clean_share below 1",
            distance=distance,
            generator=generator,
            generator_learning_rate=generator_learning_rate,
            restart_learning_rate=restart_learning_rate,
            restart_steps=restart_steps,
        )
    if not restart_steps:
        refuse_idle(ant, "restart_steps above 0", restart_learning_rate=restart_learning_rate)
    if not replay_share:
        refuse_idle(ant, "replay_share above 0", history=history)

    game = _Game(
        generator=generator,
        distance=distance,
        clean_share=clean_share,
        replay_share=replay_share,
        learning_rate=generator_learning_rate,
        restart_learning_rate=restart_learning_rate,
        restart_steps=restart_steps,
        history=history,
    )
    return Method(
        game.init,
        game.inputs,
        gradient=game.gradient,
        update=game.update,
        after_epoch=game.after_epoch,
    )


class _Game(NamedTuple):
    """How a generator plays against the classifier; see `ant` for the options."""

    generator: str
    distance: float | None
    clean_share: float
    replay_share: float
    learning_rate: float
    """The generator's."""
    restart_learning_rate: float
    restart_steps: int
    history: int

    def adversary(self, image_shape: Sequence[int]) -> _Adversary:
        """Returns generator and distance for images of a shape."""
        return _adversary(image_shape, self.generator, self.distance)

    def init(self, key: Key, setting: Setting) -> MethodState:
        """Is the method's `init`."""
        return _initial(key, self.adversary(setting.model.image_shape), self.history)

    def inputs(
        self, logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array:
        """Is the method's `inputs`."""
        del logits_fn, labels
        adversary, own = self.adversary(images.shape[1:]), state.replicated
        codes = adversary.network.codes(prng.per_draw(keys, 0))
        number = jax.vmap(prng.uniform)(prng.per_draw(keys, 1))
        noise = adversary.network.apply(own["generator"], codes)
        for part, params in zip((1.0, 0.5), _two_saved(own), strict=True):
            is_replayed = (number >= 1 - part * self.replay_share) & (own["saved"] > 0)
            other = adversary.network.apply(params, codes)
            noise = jnp.where(is_replayed[:, None, None, None], other, noise)
        noisy = step_in_box(images, noise, adversary.distance)
        return jnp.where((number < self.clean_share)[:, None, None, None], images, noisy)

    def gradient(self, seen: Seen, input_gradients: Array) -> tuple[Any, Array]:
        """Is the method's `gradient`: the generator's ascent, and of how many images."""
        del input_gradients
        ascent = jax.grad(self.adversary(seen.images.shape[1:]).climbed)(
            seen.state.replicated["generator"],
            prng.per_draw(seen.keys, 2),
            seen.logits_fn,
            seen.images,
            seen.labels,
        )
        return ascent, jnp.float32(len(seen.labels))

    def update(self, seen: Seen, input_gradients: Array, shared: tuple[Any, Array]) -> MethodState:
        """Is the method's `update`."""
        del input_gradients
        own = seen.state.replicated
        params, opt_state = _ascend(own["generator"], own["opt_state"], *shared, self.learning_rate)
        return seen.state._replace(replicated=own | {"generator": params, "opt_state": opt_state})

    def after_epoch(self, key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        """Is the method's `after_epoch`."""
        own = state.method_state.replicated
        if self.restart_steps:
            adversary = self.adversary(epoch.model.image_shape)
            logits_fn = jax.tree_util.Partial(epoch.model.apply, state.variables)
            sizes = self.restart_steps, self.restart_learning_rate
            params = _trained_anew(adversary, key, logits_fn, epoch.train_set, *sizes)
            own = own | {"generator": params, "opt_state": _ADAM.init(params)}
        own = jax.device_get(_saved(own))
        return state._replace(method_state=MethodState(own, ()))


class _Adversary(NamedTuple):
    """A generator, and how far its noise takes an image."""

    network: NoiseGenerator
    distance: float

    def climbed(
        self, params: Any, keys: Key, logits_fn: LogitsFn, images: Array, labels: Array
    ) -> Array:
        """The sum of the images' losses under its noise."""
        noise = self.network.apply(params, self.network.codes(keys))
        noisy = step_in_box(images, noise, self.distance)
        return jnp.sum(cross_entropy(loop_safe(logits_fn)(noisy), labels))


@functools.cache
def _adversary(image_shape: Sequence[int], generator: str, distance: float | None) -> _Adversary:
    if distance is None:
        distance = _RMS * math.sqrt(math.prod(image_shape))
    kernel = 1 if generator == "1x1" else 3
    return _Adversary(noise_generator(image_shape=image_shape, kernel=kernel), distance)


def _initial(key: Key, adversary: _Adversary, history: int) -> MethodState:
    """The state before the first step, of which no generator is saved."""
    params = adversary.network.init(prng.named(key, "generator"))
    return MethodState(
        {
            "generator": params,
            "opt_state": _ADAM.init(params),
            "history": jax.tree.map(lambda x: jnp.zeros((history, *x.shape), x.dtype), params),
            "saved": jnp.int32(0),
            "key": jax.random.key_data(prng.check(prng.named(key, "replay"))),
        },
        (),
    )


def _saved(state: Any) -> Any:
    """The state with its generator among those saved, in place of the oldest."""

    def replaced(kept: np.ndarray, params: Array) -> np.ndarray:
        copied = np.array(kept)
        copied[int(state["saved"]) % len(copied)] = params
        return copied

    kept = jax.tree.map(replaced, state["history"], state["generator"])
    return state | {"history": kept, "saved": np.int32(state["saved"] + 1)}


def _two_saved(state: Any) -> list[Any]:
    """Two saved generators, drawn anew for each batch: the same on all devices."""
    key = prng.from_data(state["key"])
    for number in (state["saved"], state["opt_state"].count):
        key = prng.fold_in(key, number)
    kept = len(jax.tree.leaves(state["history"])[0])
    numbers = prng.randint(key, (2,), 0, jnp.clip(state["saved"], 1, kept))
    return [jax.tree.map(lambda x, i=i: x[numbers[i]], state["history"]) for i in (0, 1)]


def _ascend(
    params: Any, opt_state: Any, total: Any, count: Array, learning_rate: Array | float
) -> tuple[Any, Any]:
    """A step of Adam up the mean over a batch."""
    updates, opt_state = _ADAM.update(jax.tree.map(lambda x: x / count, total), opt_state)
    return jax.tree.map(lambda p, x: p + learning_rate * x, params, updates), opt_state


def _trained_anew(
    adversary: _Adversary,
    key: Key,
    logits_fn: LogitsFn,
    data: Dataset,
    num_steps: int,
    learning_rate: float,
) -> Any:
    """A generator that begins anew and is trained against a classifier that does not move."""
    params = adversary.network.init(prng.named(key, "generator"))
    carry = params, _ADAM.init(params)
    for first in range(0, num_steps, _STEPS_A_CALL):
        drawn, codes = prng.split(prng.fold_in(key, first))
        size = min(_STEPS_A_CALL, num_steps - first), _RESTART_BATCH
        rows = np.asarray(prng.randint(drawn, size, 0, data.num_examples))
        images = data.images[rows.reshape(-1)].reshape(*size, *data.images.shape[1:])
        batches = prng.split(codes, size[0]), images, data.labels[rows]
        carry = _climb(adversary, carry, logits_fn, batches, learning_rate)
    return carry[0]


@functools.partial(jax.jit, static_argnums=0)
def _climb(
    adversary: _Adversary,
    carry: tuple[Any, Any],
    logits_fn: LogitsFn,
    batches: tuple[Key, Array, Array],
    learning_rate: float,
) -> tuple[Any, Any]:
    """A step on each of some batches."""

    def step(carry: tuple[Any, Any], batch: tuple[Key, Array, Array]) -> tuple[Any, None]:
        key, images, labels = batch
        keys = prng.per_example(key, jnp.arange(len(labels)))
        ascent = jax.grad(adversary.climbed)(carry[0], keys, logits_fn, to_float(images), labels)
        return _ascend(*carry, ascent, jnp.float32(len(labels)), learning_rate), None

    return jax.lax.scan(step, carry, batches)[0]
