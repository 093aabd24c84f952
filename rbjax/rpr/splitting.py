"""Failure probabilities too small for plain draws, by adaptive multilevel splitting."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.blocks import Block, check_examples, cut, map_blocks
from rbjax.captures import Compiled
from rbjax.classifier import Classifier, Model, as_classifier, predicted
from rbjax.inputs import NO_CLASS, check_integer, check_real, to_float
from rbjax.losses.adversarial import margin
from rbjax.options import named
from rbjax.progress import ShowProgress, teller
from rbjax.tables import lookup
from rbjax.typing import Array, Key

_TARGET_ACCEPTANCE = 0.234
"""The share of moves to accept; the best of a random walk in many dimensions (Roberts, Gelman and
Gilks 1997), and flat around it."""
_NARROWEST = 1e-4
_PER_BLOCK = {"cpu": 1}
_PER_BLOCK_ELSEWHERE = 16


class Splitting(NamedTuple):
    """What splitting returns; N images, R independent runs of each."""

    log10_probability: np.ndarray
    """(N,) float64, of the mean of the runs; an upper bound where not `converged`."""
    standard_error: np.ndarray
    """(N,) float64, of it, in decades: the runs' deviation over sqrt(R); NaN with one run."""
    converged: np.ndarray
    """(N,) bool, whether every run reached failure. Where one did not, the probability is that of
    the last level, which failure lies beyond: below the run's resolution, perhaps zero."""
    runs: np.ndarray
    """(N, R) float64, log10 of each run's estimate."""
    levels: np.ndarray
    """(N, R) int32, levels before failure; 0 where plain draws sufficed."""
    acceptance: np.ndarray
    """(N, R) float32, share of moves accepted; NaN where there were no levels."""
    forward_passes: np.ndarray
    """(N, R) int64, perturbed images classified: particles (1 + moves levels)."""


class _Law(NamedTuple):
    """Base noise, and a walk that leaves it as it is."""

    draw: Callable[[Key, tuple[int, ...]], Array]
    """(key, shape) -> noise."""
    move: Callable[[Key, Array, Array], Array]
    """(key, noise, width) -> proposal, reversible with respect to the noise's density."""
    widest: float


def _crank_nicolson(key: Key, noise: Array, width: Array) -> Array:
    """Returns sqrt(1 - w^2) z + w xi: standard normal where z is."""
    return jnp.sqrt(1 - width**2) * noise + width * prng.normal(key, noise.shape)


def _reflect(key: Key, noise: Array, width: Array) -> Array:
    """Returns z + w xi folded back into [-1, 1] at its walls: uniform where z is."""
    moved = noise + width * prng.normal(key, noise.shape)
    return 1 - jnp.abs(jnp.mod(moved + 1, 4) - 2)


NOISE = {
    "gaussian": _Law(prng.normal, _crank_nicolson, 1.0),
    "uniform": _Law(functools.partial(prng.uniform, minval=-1.0, maxval=1.0), _reflect, 2.0),
}
"""The laws of the noise by name, of unit scale."""


@dataclasses.dataclass(frozen=True)
class _Options:
    """What is compiled in."""

    noise: str
    clipped: bool
    num_particles: int
    num_kept: int
    num_moves: int
    max_levels: int


class _State(NamedTuple):
    """Where one run stands."""

    noise: Array
    """(P, H, W, C) of unit scale."""
    margins: Array
    """(P,) what the particles score; failure from 0 on."""
    log_probability: Array
    """() natural log of the share that lies above the levels so far."""
    log_width: Array
    """() natural log of the proposal's width."""
    num_accepted: Array
    """() moves accepted so far."""
    levels: Array
    """() int32."""


class _Run(NamedTuple):
    """The results of one run."""

    log_probability: Any
    levels: Any
    acceptance: Any
    converged: Any


@named
def failure_probability(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    scale: float,
    noise: str = "gaussian",
    clipped: bool = False,
    num_particles: int = 1000,
    quantile: float = 0.1,
    num_moves: int = 30,
    max_levels: int = 30,
    num_runs: int = 1,
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    progress: ShowProgress = None,
) -> Splitting:
    """Estimates P[s(x + noise) >= 0], s(x) = max_{j != y} z_j(x) - z_y(x), however small.

    An answer of no class, such as NaN, is a failure.

    Particles are drawn from the noise. Level by level, L = min(0, the upper quantile of their s);
    ln p += ln(share with s >= L); the others are replaced by copies of those that reached L, and
    all take `num_moves` Metropolis moves that are kept where s >= L. It ends with L = 0. The walks
    leave the noise as it is (preconditioned Crank-Nicolson for Gaussian noise, a walk reflected at
    the walls for uniform), and their width follows the share of moves accepted. A level that does
    not rise is never taken for a failure: after `max_levels`, `converged` says so.

    ln of one run deviates by about sqrt(levels (1 - quantile) / (quantile num_particles)), more
    where moves are too few: `num_runs` shows by how much. Plain draws (`rbjax.rpr.score`) do where
    p is above about 1e-3. Each run of an image has the keys of
    `fold_in(fold_in(key, example_id), run)`, so it depends on neither the other images nor the
    blocks, but for float32 logits that move with a batch's shape, and with them a particle's way.

    Args:
        logits_fn: images -> logits (B, K). With `Partial(model.apply, variables)` new weights do
            not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1].
        labels: (N,) integers, the true classes.
        scale: standard deviation of Gaussian, half the width of uniform noise, in pixel units.
        noise: `"gaussian"` or `"uniform"`.
        clipped: whether the model sees clip(x + noise, 0, 1), as in
            `rbjax.perturbations.gaussian_noise` and `uniform_noise`; else noise leaves [0, 1].
        num_particles: P of a run.
        quantile: rho, share of the particles that reach the next level.
        num_moves: M, Metropolis moves a level.
        max_levels: levels at most; about `quantile ** max_levels` is the smallest probability.
        num_runs: R, independent runs of each image.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: runs that go side by side, P images each in a forward pass; None: 1 on CPU and
            16 elsewhere.
        progress: shown if True; a function is called after each block; runs are counted.

    Returns:
        The estimates.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Webb, Rainforth, Teh and Kumar 2019, "A Statistical Approach to Assessing Neural Network
        Robustness", arXiv 1811.07209, algorithm 1; Cotter, Roberts, Stuart and White 2013, "MCMC
        Methods for Functions", arXiv 1202.0709 (Crank-Nicolson).
    """
    key = prng.check(key)
    model = as_classifier(logits_fn).deterministic()
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    options = _options(noise, clipped, num_particles, quantile, num_moves, max_levels)
    scale = check_real("scale", scale)
    num_runs = check_integer("num_runs", num_runs, low=1)
    default = _PER_BLOCK.get(jax.default_backend(), _PER_BLOCK_ELSEWHERE)
    batch_size = default if batch_size is None else check_integer("batch_size", batch_size, low=1)
    num_images = len(examples.labels)
    keys = prng.per_example(key, jnp.repeat(jnp.asarray(examples.example_ids), num_runs))
    keys = prng.per_draw(keys, jnp.tile(jnp.arange(num_runs), num_images))
    owners = np.repeat(np.arange(num_images), num_runs)

    def run_rows(block: Block, _: None) -> dict[str, Array]:
        rows = block.padded
        owner = owners[rows]
        batch = to_float(examples.read(owner)), jnp.asarray(examples.labels[owner])
        return _run_block(options, model, keys[rows], *batch, scale)._asdict()

    blocks = cut(np.arange(len(owners)), batch_size)
    runs = map_blocks(run_rows, blocks, tell=teller(progress))
    return _summarize(_Run(**{k: x.reshape(-1, num_runs) for k, x in runs.items()}), options)


@Compiled
@functools.partial(jax.jit, static_argnums=0)
def _run_block(
    options: _Options, model: Classifier, keys: Key, images: Array, labels: Array, scale: Array
) -> _Run:
    """Returns one run for each key, image and label."""
    one = functools.partial(_run_one, options, model.in_loops())
    return jax.vmap(one, in_axes=(0, 0, 0, None))(keys, images, labels, scale)


def _run_one(
    options: _Options, model: Classifier, key: Key, image: Array, label: Array, scale: Array
) -> _Run:
    """Returns one run on one image."""
    law, num_particles = NOISE[options.noise], options.num_particles
    draw_key, level_key = prng.split(key)

    def score(noise: Array) -> Array:
        perturbed = image + scale * noise
        perturbed = jnp.clip(perturbed, 0.0, 1.0) if options.clipped else perturbed
        logits = model.logits(None, perturbed)
        margins = margin(logits, jnp.broadcast_to(label, num_particles))
        return jnp.where(predicted(logits) == NO_CLASS, jnp.inf, margins)

    def unfinished(state: _State) -> Array:
        return (_level(state.margins, options) < 0) & (state.levels < options.max_levels)

    def climb(state: _State) -> _State:
        key = prng.fold_in(level_key, state.levels)
        return _climb(options, law, score, key, state)

    noise = law.draw(draw_key, (num_particles, *image.shape))
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    width = jnp.log(jnp.float32(law.widest / 2))
    state = _State(noise, score(noise), zero, width, zero, none)
    state = jax.lax.while_loop(unfinished, climb, state)
    reached = state.margins >= jnp.minimum(_level(state.margins, options), 0)
    moves = state.levels * options.num_moves * num_particles
    return _Run(
        log_probability=state.log_probability + jnp.log(_share(reached)),
        levels=state.levels,
        acceptance=jnp.where(moves > 0, state.num_accepted / moves, jnp.nan),
        converged=_level(state.margins, options) >= 0,
    )


def _share(flags: Array) -> Array:
    """Returns the share of those that are true, float32."""
    return jnp.mean(flags, dtype=jnp.float32)


def _level(margins: Array, options: _Options) -> Array:
    """Returns what the best `num_kept` particles reach."""
    return jnp.sort(margins)[options.num_particles - options.num_kept]


def _climb(
    options: _Options, law: _Law, score: Callable[[Array], Array], key: Key, state: _State
) -> _State:
    """Returns the particles above the next level, and what it costs to reach it."""
    level = _level(state.margins, options)
    above = state.margins >= level
    copy_key, move_key = prng.split(key)
    # The first of the best-first order are those above: draw a parent among them for the others.
    best = jnp.argsort(-state.margins)
    parents = best[prng.randint(copy_key, above.shape, 0, jnp.sum(above))]
    parents = jnp.where(above, jnp.arange(options.num_particles), parents)

    def move(number: Array, state: _State) -> _State:
        propose_key = prng.fold_in(move_key, number)
        noise = law.move(propose_key, state.noise, jnp.exp(state.log_width))
        margins = score(noise)
        accepted = margins >= level
        log_width = state.log_width + _share(accepted) - _TARGET_ACCEPTANCE
        return state._replace(
            noise=jnp.where(accepted[:, None, None, None], noise, state.noise),
            margins=jnp.where(accepted, margins, state.margins),
            log_width=jnp.clip(log_width, math.log(_NARROWEST), math.log(law.widest)),
            num_accepted=state.num_accepted + jnp.sum(accepted),
        )

    state = state._replace(
        noise=state.noise[parents],
        margins=state.margins[parents],
        log_probability=state.log_probability + jnp.log(_share(above)),
        levels=state.levels + 1,
    )
    return jax.lax.fori_loop(0, options.num_moves, move, state)


def _summarize(run: _Run, options: _Options) -> Splitting:
    """Returns each image's mean and error of its (N, R) runs."""
    from scipy.special import logsumexp

    log_probability = np.asarray(run.log_probability, np.float64)
    num_runs = log_probability.shape[1]
    runs = log_probability / np.log(10)
    mean = logsumexp(log_probability, axis=1) - np.log(num_runs)
    error = np.full(len(runs), np.nan)
    if num_runs > 1:
        error = np.std(runs, axis=1, ddof=1) / np.sqrt(num_runs)
    passes = options.num_particles * (1 + options.num_moves * run.levels.astype(np.int64))
    return Splitting(
        log10_probability=np.asarray(mean / np.log(10)),
        standard_error=error,
        converged=np.all(run.converged, axis=1),
        runs=runs,
        levels=np.asarray(run.levels),
        acceptance=np.asarray(run.acceptance),
        forward_passes=np.asarray(passes),
    )


def _options(
    noise: str,
    clipped: bool,
    num_particles: int,
    quantile: float,
    num_moves: int,
    max_levels: int,
) -> _Options:
    """Returns the options, checked."""
    lookup(NOISE, noise, what="noise")
    num_particles = check_integer("num_particles", num_particles, low=2)
    num_kept = round(check_real("quantile", quantile, high=1.0) * num_particles)
    if not 0 < num_kept < num_particles:
        raise ValueError(
            f"quantile is {quantile}; of {num_particles} particles it must keep at least one and "
            "not all"
        )
    return _Options(
        noise=noise,
        clipped=bool(clipped),
        num_particles=num_particles,
        num_kept=num_kept,
        num_moves=check_integer("num_moves", num_moves, low=1),
        max_levels=check_integer("max_levels", max_levels, low=1),
    )
