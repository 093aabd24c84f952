"""What a training method is made of: functions and fields, each with a default."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from rbjax.data import Dataset
from rbjax.errors import a_type
from rbjax.inputs import check_integer
from rbjax.models import Model
from rbjax.tables import lookup
from rbjax.typing import Array, Key, LogitsFn

if TYPE_CHECKING:
    from rbjax.training.state import TrainState

PyTree = Any


class MethodState(NamedTuple):
    """What a method remembers between steps."""

    replicated: PyTree
    """The same on every device, for example a universal perturbation (H, W, C)."""
    per_row: PyTree
    """Leading axis of the batch's rows, split over the devices."""


class Setting(NamedTuple):
    """What a method's initial state may depend on."""

    model: Model
    variables: PyTree
    """The initial weights, {"params": ..., "batch_stats": ...}."""
    opt_state: PyTree
    """The optimizer's initial state."""
    num_rows: int
    """Rows of a batch over all devices, the leading axis of `MethodState.per_row`."""
    class_counts: np.ndarray | None
    """(K,) training examples of each class; None where the caller does not know them."""
    has_ema: bool = False
    """Whether an average of the weights is kept, which begins as they do."""


class Output(NamedTuple):
    """What the network returns for one array of the inputs."""

    logits: Array
    """(B, K)."""
    features: Array | None
    """(B, F), the penultimate layer; None unless the method asks for `features`."""


class Seen(NamedTuple):
    """A batch after the network has seen it; the rows of one device."""

    outputs: Any
    """An `Output` in the place of each array of the inputs: `seen.outputs.logits` where the inputs
    are one array, `clean, perturbed = seen.outputs` where they are two."""
    labels: Array
    """(B,) int32; under Mixup those of the image with the larger share."""
    task_loss: Callable[[Array], Array]
    """logits -> (B,), the config's loss against the labels, mixed ones under Mixup."""
    logits_fn: LogitsFn
    """The network with running statistics, at the weights that are differentiated."""
    images: Any
    """What `inputs` was given."""
    inputs: Any
    """What `inputs` returned."""
    keys: Key
    """(B,) the method's key of each example."""
    state: MethodState
    sums: Any = None
    """What `sums` returned, added up over the devices."""
    losses: Any = None
    """(B,) each example's loss, before its weight; None until it is known."""


class ClassSums(NamedTuple):
    """Training added up class by class: over a step, or (as float64) over an epoch."""

    count: Any
    """(K,) examples."""
    loss: Any
    """(K,) sum of their losses, before their weights."""
    correct: Any
    """(inputs, K) how many were correctly classified; a row for each array of the inputs."""


class Epoch(NamedTuple):
    """What `average`, `guard` and `after_epoch` are told, on the host."""

    number: int
    """Epochs made, from 1."""
    num_epochs: int
    train: ClassSums
    confusion: np.ndarray | None
    """(K, K) validation examples by class and prediction; None without a validation set, or before
    the validation."""
    train_set: Dataset
    validation_set: Dataset | None
    model: Model
    robust_confusion: np.ndarray | None = None
    """(K, K) of those of them that were attacked (config group `validation`); None where none
    was."""


class Prepared(NamedTuple):
    """What `prepare` returns; None leaves a thing as it is."""

    train_set: Dataset | None = None
    variables: PyTree | None = None
    """Initial weights, for example of a network that was trained before."""


class Method(NamedTuple):
    """A training method; `Method()` is standard training, and each field changes one thing.

    One step, with images augmented and the weights w, is

        inputs  = method.inputs(logits_fn of w, keys, state, images, labels)   # not differentiated
        outputs = the network of w on each array of the inputs
        value   = mean(weights(seen) * loss(seen))                  # seen: outputs, labels, ...
        w       = optimizer(w, gradient of the value at descend_at(w))
        state   = update(seen, gradient of the value in the inputs, shared)

    The functions are pure and are traced: they run on each device with its own rows of the batch,
    and only `sums` and `gradient` are added up over the devices, so that one device and eight give
    the same numbers.  `init`, `prepare`, `average`, `guard` and `after_epoch` run on the host.
    Random numbers come from the keys that are handed in.  Everything that must survive a restart is
    in the state:

        def noisy(*, sigma: float = 0.1) -> Method:
            def inputs(logits_fn, keys, state, images, labels):
                noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
                return images, jnp.clip(images + sigma * noise, 0, 1)

            def loss(seen):
                clean, noisy = seen.outputs
                return seen.task_loss(clean.logits) + kl_divergence(noisy.logits, clean.logits)

            return Method(inputs=inputs, loss=loss)
    """

    # ---------------------------------------------------------------- what is trained on
    init: Callable[[Key, Setting], MethodState] = lambda key, setting: MethodState((), ())
    """(key, setting) -> the state before the first step."""
    inputs: Callable[[LogitsFn, Key, MethodState, Any, Array], Any] = (
        lambda logits_fn, keys, state, images, labels: images
    )
    """(logits_fn, keys (B,), state, images (B, H, W, C), labels (B,)) -> what the network sees, in
    [0, 1]: an array like `images`, or a tuple or dict of such arrays."""
    views: int = 1
    """Independent augmentations of each image; with two or more, `images` is a tuple of them."""
    together: bool = False
    """Whether several inputs go through the network as one batch, with one set of batch
    statistics.  Otherwise they go one after another, and the running statistics follow in turn."""
    mixup: bool = False
    """Whether images may be mixtures of two classes (`dataset.mixup_alpha`)."""
    validation: bool = False
    """Whether `after_epoch` measures on a validation set, so that there must be one."""
    uniform_sampler: bool = False
    """Whether the batches must be drawn uniformly, since the method weighs classes against their
    shares of the training set."""
    attack_batch_norm: str = "eval"
    """Batch norm of `logits_fn`: "eval" (running statistics) or "train" (the batch's own)."""

    rows_together: int = 1
    """Rows of the batch, in its order, that must lie on one device; the batch size is a multiple
    of them times the number of devices."""

    # ---------------------------------------------------------------- what is minimised
    loss: Callable[[Seen], Array] | None = None
    """(seen) -> each example's loss (B,); None: the config's, its mean over the inputs."""
    weights: Callable[[Seen], Array] | None = None
    """(seen) -> what each loss is multiplied by (B,), taken as constant; None: 1.  Weights of
    classes are `seen.state.replicated[seen.labels]`."""
    sums: Callable[[Seen], PyTree] | None = None
    """(seen) -> sums over the rows, of outputs, labels and inputs.  They are added up over the
    devices, differentiably, and are `seen.sums` in `loss` and `weights`: class means are sums of
    features over counts."""
    softmax: bool = False
    """Whether terms of its own compare softmax predictions, which no loss of sigmoids trains."""
    features: bool = False
    """Whether the outputs hold the penultimate layer."""

    # ---------------------------------------------------------------- where it descends
    craft_at: Callable[[PyTree, MethodState], PyTree] | None = None
    """(params, state) -> the weights of `logits_fn`; None: as they are."""
    descend_at: Callable[[Callable[[PyTree], PyTree], PyTree, MethodState], PyTree] | None = None
    """(gradient_fn, params, state) -> the weights at which the gradient is taken, which then moves
    the weights as they were.  `gradient_fn(params)` is the value's gradient over all devices."""
    replays: int = 1
    """Descents on each batch, each with inputs and an update of its own.  The schedule counts
    descents, the data count batches; what is logged is the last one."""
    trains: Callable[[str], bool] | None = None
    """(path, such as "head/kernel") -> whether that parameter is trained; None: all are.  The
    others, and the running statistics of modules without a trained one, stay as they are."""
    batch_norm: str = "train"
    """The network while it descends: "train", or "eval" (running statistics, no dropout), as a
    frozen backbone wants it."""

    # ---------------------------------------------------------------- what is learnt beside
    gradient: Callable[[Seen, Any], PyTree] | None = None
    """(seen, input gradients) -> what the devices share, sums over the rows.  The gradients are of
    the mean loss of the whole batch, arrays like the inputs.  A generator's is their
    vector-Jacobian product."""
    update: Callable[[Seen, Any, PyTree], MethodState] | None = None
    """(seen, input gradients, sums of `gradient` over the devices) -> the next state; what is
    `replicated` may depend on the sums and on `seen.sums` only.  None: the state stays."""
    alternating: bool = False
    """Whether `update` sees outputs and gradients taken again after the weights' step."""

    # ---------------------------------------------------------------- around the steps
    prepare: Callable[[Key, Dataset, Model], Prepared] | None = None
    """(key, training set, model) -> another training set, initial weights.  Called once, before
    the first step; what it returns is kept in the run directory."""
    average: Callable[[Key, TrainState, Epoch, float], TrainState] | None = None
    """(key, state, epoch, decay) -> the state with another `ema`: how a run with an average of its
    weights (`optimizer.ema_decay`) moves it, once after each epoch in the place of every step.  It
    comes before the validation, so that the epoch has no confusion matrix, and what is returned is
    validated and evaluated; None: each step moves it."""
    guard: Callable[[Key, TrainState, Epoch], TrainState] | None = None
    """(key, state, epoch) -> the state, or an earlier one's `variables` (and `ema`, where an
    average is kept): how a method takes an epoch back.  It comes after `average` and before the
    validation, so that the log, the best epoch and early stopping know only what training goes on
    with."""
    after_epoch: Callable[[Key, TrainState, Epoch], TrainState] | None = None
    """(key, state, epoch) -> the state to continue with, after each epoch.  It holds numpy arrays,
    whose names, shapes and dtypes must stay: new class weights in its `method_state`, for example.
    Weights that it changes are not those that were validated; see `guard`."""


def check(method: Method) -> None:
    """Refuses a method whose fields do not go together.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """
    if not isinstance(method, Method):
        raise ValueError(
            f"a training method is an rbjax.methods.Method; this one is {a_type(method)}"
        )
    for name in ("views", "replays", "rows_together"):
        check_integer(name, getattr(method, name), low=1)
    for name in ("attack_batch_norm", "batch_norm"):
        lookup({"eval": 0, "train": 0}, getattr(method, name), what=name)
    if method.gradient is not None and method.update is None:
        raise ValueError("a method with `gradient` needs `update`, which is given its sums")


def trained_part(method: Method, params: PyTree) -> PyTree:
    """Returns the parameters that a method trains, and None in the place of the others.

    Raises:
        ValueError: if it trains none of them.
    """
    if method.trains is None:
        return params
    trains = method.trains
    part = jax.tree.map_with_path(lambda path, leaf: leaf if trains(_path(path)) else None, params)
    if not jax.tree.leaves(part):
        names = [_path(path) for path, _ in jax.tree.leaves_with_path(params)]
        raise ValueError(
            f"the method trains none of the {len(names)} parameters, {', '.join(names[:3])}, ...; "
            "its `trains` must be true for at least one path"
        )
    return part


def with_the_rest(part: PyTree, params: PyTree) -> PyTree:
    """Returns whole parameters: `part`, and `params` where it has None."""
    return jax.tree.map(
        lambda new, old: old if new is None else new, part, params, is_leaf=lambda x: x is None
    )


def with_frozen_statistics(method: Method, params: PyTree, old: PyTree, new: PyTree) -> PyTree:
    """Returns the new running statistics, but the old ones of modules that the method freezes.

    Statistics belong to the innermost module around them that has parameters.
    """
    if method.trains is None:
        return new
    trains, names = method.trains, [_path(path) for path, _ in jax.tree.leaves_with_path(params)]

    def chosen(path: Any, old: Array, new: Array) -> Array:
        *module, _ = _path(path).split("/")
        mine: list[str] = []
        while not mine:
            mine = [name for name in names if name.split("/")[: len(module)] == module]
            module = module[:-1]
        return new if any(trains(name) for name in mine) else old

    return jax.tree.map_with_path(chosen, old, new)


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
