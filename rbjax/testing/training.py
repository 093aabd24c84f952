"""What every model and every training method must do."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax import losses, metrics, models, prng
from rbjax.data import Dataset, DatasetInfo
from rbjax.methods import ClassSums, Epoch, Method, Prepared
from rbjax.models import Model
from rbjax.prng import per_example
from rbjax.testing.attacks import choose_num_devices
from rbjax.training import hooks
from rbjax.training.predict import predict
from rbjax.training.state import (
    TrainState,
    create_state,
    evaluation_variables,
    on_host,
    place,
)
from rbjax.training.step import Recipe, StepMetrics, TrainStep, make_train_step

BATCH = 8
NUM_EXAMPLES = 24
NUM_CLASSES = 3
SHAPE = (8, 8, 1)
IDS = jnp.array([5, 2, 9, 4])


def check_model(model: Model) -> None:
    """Puts a model to what rbjax's own are held to.

    Weights, logits and features are finite float32 of the right shapes; an example's logits depend
    on no other example; what is random in training follows from the example's key; statistics of
    batch norm keep their form; other weights do not trace again.

    Args:
        model: as `models.create` and `models.wrap` make it.

    Raises:
        AssertionError: for whatever it does not do, beginning with `check_model`.
    """
    if not isinstance(model, Model):
        kind = "a Flax module" if isinstance(model, nn.Module) else f"a {type(model).__name__}"
        raise AssertionError(
            f"check_model: a model is what models.create returns, this is {kind}; make it by "
            "models.create(module, num_classes=..., image_shape=(H, W, C), mean=..., std=...)"
        )
    shape, num_classes = model.image_shape, model.num_classes
    images = prng.uniform(prng.key(1), (4, *shape))
    keys = per_example(prng.key(2), IDS)
    variables = model.init(prng.key(0), images)
    for leaf in jax.tree.leaves(variables):
        assert leaf.dtype == jnp.float32, f"check_model: a variable is {leaf.dtype}, not float32"
        assert np.all(np.isfinite(leaf)), "check_model: an initial variable is not finite"
    num_traces = 0

    @jax.jit
    def apply(variables: Any, images: Any) -> Any:
        nonlocal num_traces
        num_traces += 1
        return model.apply(variables, images)

    logits = apply(variables, images)
    train = jax.jit(model.apply_train)
    trained, batch_stats = train(variables, images, keys)
    for values in (logits, trained):
        assert values.shape == (4, num_classes), f"check_model: logits have shape {values.shape}"
        assert values.dtype == jnp.float32, f"check_model: logits are {values.dtype}, not float32"
        assert np.all(np.isfinite(values)), "check_model: logits are not finite"
    same_form = jax.tree.map(jnp.shape, batch_stats) == jax.tree.map(
        jnp.shape, variables.get("batch_stats", {})
    )
    assert same_form, "check_model: batch statistics change their form in training"
    features = jax.eval_shape(model.features, variables, images)
    assert features.shape[:1] == (4,), "check_model: features have no row for each image"
    assert len(features.shape) == 2, "check_model: features are not (B, F)"
    alone = jnp.concatenate([model.apply(variables, images[i : i + 1]) for i in (3, 1)])
    together = logits[jnp.array([3, 1])]
    assert np.allclose(together, alone, rtol=0, atol=1e-5), "check_model: depends on the batch"
    order = jnp.array([2, 0, 3, 1])
    moved, _ = train(variables, images[order], keys[order])
    by_key = np.allclose(moved, trained[order], rtol=0, atol=1e-4)
    assert by_key, "check_model: what is random does not follow from the example's key"
    other = apply(jax.tree.map(lambda leaf: 1.5 * leaf + 0.01, variables), images)
    assert num_traces == 1, "check_model: other weights trace again"
    assert not np.allclose(other, logits), "check_model: other weights give the same logits"


def check_method(
    method: Method, *, num_steps: int = 4, num_devices: int | None = None
) -> list[StepMetrics]:
    """Puts a training method to what rbjax's own are held to.

    It trains a small CNN: weights stay finite and move; the state keeps its form; a run that is
    taken up from a checkpoint of its second step ends in the same bits as one that is not; and
    several devices give what one gives, where there are several.  `prepare` and `after_epoch`
    return what the trainer takes, the same each time, and training continues from there.

    Args:
        method: as its maker makes it.
        num_steps: steps to train, at least 3.
        num_devices: how many local devices are compared with one: 1, 2, 4 or 8; None: as many as
            there are.  With 1 nothing is compared, of which None warns.

    Returns:
        Each step's metrics, on one device.

    Raises:
        AssertionError: for whatever it does not do, beginning with `check_method`.
        ValueError: if there are not as many devices.
    """
    if not isinstance(method, Method):
        raise AssertionError(
            "check_method: a training method is an rbjax.methods.Method, as its maker returns it "
            f"(methods.trades(epsilon=0.1)); this is a {type(method).__name__}"
        )
    num_devices = choose_num_devices(num_devices, "check_method")
    prepared = check_prepare(method)
    data, train_step = prepared.train_set, make_step(method)
    run = functools.partial(train, method, train_set=data, variables=prepared.variables)
    first, last, history = run(num_steps=num_steps, train_step=train_step)
    _check_form(first, last)
    assert last.step == num_steps, "check_method: the state does not count its steps"
    assert all(np.isfinite(step.loss[0]) for step in history), "check_method: loss not finite"
    moved = any(
        not np.array_equal(before, after)
        for before, after in zip(
            jax.tree.leaves(first.variables), jax.tree.leaves(last.variables), strict=True
        )
    )
    assert moved, "check_method: the weights do not move"
    half = run(num_steps=2, train_step=train_step)[1]
    resumed = run(num_steps=num_steps - 2, state=half)[1]  # traced again, as after an interruption
    assert _equal(last, resumed), "check_method: a resumed run ends elsewhere"
    if any((method.average, method.guard, method.after_epoch)):
        state = check_after_epoch(method, last, history, data)
        _, after, further = run(num_steps=1, state=state, train_step=train_step)
        _check_form(first, after)
        finite = np.isfinite(further[0].loss[0])
        assert finite, "check_method: loss not finite after after_epoch"
    if num_devices == 1:
        return history
    several = run(num_steps=num_steps, state=first, num_devices=num_devices)[1]
    for own, other in zip(jax.tree.leaves(last), jax.tree.leaves(several), strict=True):
        close = np.allclose(own, other, rtol=1e-3, atol=1e-4)
        assert close, f"check_method: {num_devices} devices give other numbers than one"
    return history


def check_prepare(method: Method) -> Prepared:
    """Checks that `prepare` returns what a run can begin with, the same each time it is called.

    Returns:
        What it prepared for a training set of noise, or that set where the method prepares nothing.
    """
    data = make_train_set()
    if method.prepare is None:
        return Prepared(data)

    def prepare(*, has_begun: bool = False) -> Prepared:
        key = prng.key(2)
        return hooks.prepare(method, key, data, make_model(), folder, has_begun=has_begun)

    with tempfile.TemporaryDirectory() as folder:
        try:
            one = jax.device_get(prepare().variables), _arrays(prepare().train_set)
            read = _arrays(prepare(has_begun=True).train_set)
            prepared = prepare()
        except ValueError as error:
            raise AssertionError(f"check_method: {error}") from error
    again = jax.device_get(prepared.variables), _arrays(prepared.train_set)
    assert _equal(one, again), "check_method: prepare returns something else each time"
    assert _equal(read, again[1]), "check_method: the prepared training set is not what is kept"
    return prepared


def check_after_epoch(
    method: Method, state: TrainState, history: list[StepMetrics], train_set: Dataset | None
) -> TrainState:
    """Checks that `average`, `guard` and `after_epoch` keep the state's form, the same each time.

    Args:
        method: one with any of them.
        state: on the host, after some steps.
        history: what these steps came to.
        train_set: what was trained on.

    Returns:
        The state to continue with.
    """
    model, validation_set = make_model(), make_train_set()
    logits_fn = jax.tree_util.Partial(model.apply, evaluation_variables(state))
    predictions = predict(logits_fn, validation_set)
    confusion = metrics.confusion_matrix(validation_set.labels, predictions, NUM_CLASSES)
    summed = jax.tree.map(
        lambda *steps: np.sum(steps, axis=(0, 1), dtype=np.float64),
        *[step.classes for step in history],
    )
    told = Epoch(
        number=1,
        num_epochs=2,
        train=ClassSums(*summed),
        confusion=np.asarray(confusion),
        train_set=validation_set if train_set is None else train_set,
        validation_set=validation_set,
        model=model,
    )

    def after_epoch() -> TrainState:
        # Copied: the method may write into the arrays it is given.
        copied, key = jax.tree.map(np.array, state), prng.key(2)
        before = told._replace(confusion=None)
        if method.average is not None:
            copied = hooks.average(method, key, copied, before, decay=0.5)
        if method.guard is not None:
            copied = hooks.guard(method, key, copied, before)
        return (
            copied if method.after_epoch is None else hooks.after_epoch(method, key, copied, told)
        )

    try:
        one, again = after_epoch(), after_epoch()
    except ValueError as error:
        raise AssertionError(f"check_method: {error}") from error
    assert _equal(one, again), (
        "check_method: after_epoch returns another state each time; what it remembers must be in "
        "the state, or a resumed run ends elsewhere"
    )
    return one


def make_model() -> Model:
    """Returns the small CNN of the checks, normalised as those for the digits are."""
    return models.create(
        "simple_cnn",
        num_classes=NUM_CLASSES,
        image_shape=SHAPE,
        mean=(0.3059,),
        std=(0.3189,),
        widths=(2, 3),
    )


def make_train_set() -> Dataset:
    """Returns images of noise, in three classes."""
    numbers = np.arange(NUM_EXAMPLES, dtype=np.int32)
    names = tuple(str(number) for number in range(NUM_CLASSES))
    counts = {"train": NUM_EXAMPLES}
    return Dataset(
        info=DatasetInfo("noise", SHAPE, names, counts, (0.5,), (0.25,), source="", licence=""),
        split="train",
        images=np.random.default_rng(0).integers(0, 256, (NUM_EXAMPLES, *SHAPE), dtype=np.uint8),
        labels=numbers % NUM_CLASSES,
        index=numbers.astype(np.int64),
        example_ids=numbers,
    )


def make_step(method: Method, *, num_devices: int = 1, learning_rate: float = 0.1) -> TrainStep:
    """Returns a step by plain gradient descent on the small CNN; it is compiled once."""
    recipe = Recipe(
        model=make_model(),
        method=method,
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(learning_rate),
        augment=lambda key, image: image,
        steps_per_epoch=100,
    )
    return make_train_step(recipe, prng.key(1), devices=jax.local_devices()[:num_devices])


def train(
    method: Method,
    *,
    num_steps: int = 1,
    num_devices: int = 1,
    learning_rate: float = 0.1,
    train_step: TrainStep | None = None,
    state: TrainState | None = None,
    train_set: Dataset | None = None,
    variables: Any = None,
) -> tuple[TrainState, TrainState, list[StepMetrics]]:
    """Trains a small CNN on eight images of noise, all of them in each step.

    Args:
        method: the training method.
        num_steps: steps.
        num_devices: local devices, which divide 8.
        learning_rate: of plain gradient descent.
        train_step: of `make_step` by the same method, devices and rate, which several runs share;
            None: one of this run's own.
        state: to continue from; None: the initial one.
        train_set: of which the first eight images are trained on; None: `make_train_set()`.
        variables: the initial weights; None: the model's own.

    Returns:
        The first state and the last, on the host, and each step's metrics.
    """
    train_set = train_set or make_train_set()
    rows = np.arange(BATCH) % train_set.num_examples  # fewer than eight come again
    images, labels = np.asarray(train_set.images[rows]), train_set.labels[rows]
    ids = np.arange(BATCH, dtype=np.int32)
    devices = jax.local_devices()[:num_devices]
    first = state
    if first is None:
        first = create_state(
            prng.key(0),
            make_model(),
            method,
            optax.sgd(learning_rate),
            num_rows=BATCH,
            ema=method.average is not None,
            variables=variables,
            class_counts=train_set.class_counts,
        )
        first = jax.device_get(first)
    if train_step is None:
        train_step = make_step(method, num_devices=num_devices, learning_rate=learning_rate)
    placed, history, rows = place(first, devices), [], ids.reshape(num_devices, 1, -1)
    for _ in range(num_steps):
        placed, step_metrics = train_step(placed, images, labels, ids, rows)
        history.append(jax.device_get(step_metrics))
    return first, on_host(placed), history


def _arrays(train_set: Dataset | None) -> list[np.ndarray]:
    assert train_set is not None
    return [np.asarray(train_set.images[:]), train_set.labels, train_set.example_ids]


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees hold the same bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(own, theirs) for own, theirs in pairs)


def _check_form(first: TrainState, last: TrainState) -> None:
    same_form = jax.tree.structure(first) == jax.tree.structure(last)
    assert same_form, "check_method: the state changes its form"
    for before, after in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        kept = (np.shape(before), np.asarray(before).dtype) == (np.shape(after), after.dtype)
        assert kept, f"check_method: state of {after.dtype} {np.shape(after)} was another before"
        is_number = np.issubdtype(np.asarray(after).dtype, np.floating)
        assert not is_number or np.all(np.isfinite(after)), "check_method: state is not finite"
