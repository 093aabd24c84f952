"""Training: the whole job, top to bottom."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import rbjax
from rbjax import config as schema
from rbjax import methods, metrics, prng
from rbjax.config import Config
from rbjax.data import Dataset, streaming
from rbjax.data.pipeline import Block, Schedule
from rbjax.errors import TrainingStoppedError
from rbjax.models import Model
from rbjax.training import finite, hooks, optimizers, run_directory, setup, trial
from rbjax.training.method import ClassSums, Epoch, Method
from rbjax.training.predict import predict
from rbjax.training.state import TrainState, create_state, evaluation_variables, on_host, place
from rbjax.training.step import Recipe, StepMetrics, TrainStep, make_train_step
from rbjax.training.writers import CSV_FILE, MetricsWriter, write_csv
from rbjax.typing import Array, Device, Key

STEPS_PER_DISPATCH = 4
"""Steps scanned in one dispatch: 1.1 to 1.6 times as fast as single ones on two CPU cores
(experiments/benchmarks/dispatch.py); 8 add a tenth at most, and a stop would wait longer."""


@run_directory.job
def train(config: Config, workdir: str) -> None:
    """Trains a model, or resumes from the newest checkpoint of the run directory.

    Args:
        config: a resolved config.
        workdir: the run directory; made if need be.

    Raises:
        ValueError: if the directory belongs to another config, or the batch does not fit the
            devices or the dataset.
        NotFiniteError: if the loss, the weights or the logits stop being finite; the last good
            checkpoint is kept.
        TrainingStoppedError: after SIGTERM (once the state is saved).
    """
    # ------------------------------------------------------------------ data and recipe
    devices = jax.local_devices()
    train_set, validation_set = setup.load_train(config)
    model = setup.create_model(config, train_set.info)
    method = methods.create(config.method.name, **setup.options(config, "method"))
    begin = functools.partial(_begin, config, model, method, len(devices))
    recipe, state = begin(train_set)
    plan = _plan(config, train_set, devices)
    trial.sampler(config, train_set, recipe.steps_per_epoch)
    trial.step(config, recipe, state, train_set)

    # ------------------------------------------------------------------ the run directory
    # Only now, when everything could be made: a refused config leaves no directory behind.
    has_config = run_directory.prepare(
        workdir,
        schema.stamped(config.to_dict(), rbjax.__version__),
        ignored=schema.unaffecting_weights(),
        usual=schema.usual(config.to_dict()),
    )
    key = prng.key(config.seed)
    checkpoints = setup.checkpoints(workdir, keep=config.checkpoint.keep)
    if method.prepare is not None:
        has_begun = bool(checkpoints.steps())
        with _cleared_on_failure(workdir, has_config):
            prepared = hooks.prepare(method, key, train_set, model, workdir, has_begun=has_begun)
            train_set = prepared.train_set or train_set
            origin = f"that the method {config.method.name} prepared"
            recipe, state = begin(train_set, prepared.variables, origin=origin)
        plan = _plan(config, train_set, devices)
        if not has_begun:  # so that what was prepared is not made again
            checkpoints.save(0, state, extra={"epoch_sums": _Sums()._asdict()})
    restored = checkpoints.restore_latest(state)
    step, sums, steps_per_epoch = 0, _Sums(), recipe.steps_per_epoch
    if restored is not None:
        step, state, sums = restored.step, restored.state, _Sums(**restored.extra["epoch_sums"])
        finite.check_stored(state, step, workdir)
    num_steps = steps_per_epoch * config.num_epochs
    if step == num_steps:
        print(f"{workdir}: trained already, {num_steps} steps")
        if not (Path(workdir) / CSV_FILE).exists():  # killed just before it was written
            write_csv(workdir)
        return
    many = f"{len(devices)} {devices[0].device_kind} device{'s' if len(devices) > 1 else ''}"
    where = f"{many}, jax {jax.__version__}"
    print(f"{workdir}: training from step {step} of {num_steps} on {where}; {plan}")

    # ------------------------------------------------------------------ the loop
    saved, state = step, place(state, devices)
    shown = train_set.take(np.arange(config.batch_size))
    schedule = _schedule(config, train_set, plan.steps_per_block, start=step)
    feed = streaming.feed(train_set, schedule, plan, devices=devices)
    dispatch = _Dispatch(recipe, prng.named(key, "train"), devices, streamed=plan.streamed)
    with MetricsWriter(workdir, step=step) as writer, _stop_requests() as stop_requested, feed:
        while step < num_steps:
            epoch, position = divmod(step, steps_per_epoch)
            first, pending, started = position, None, time.perf_counter()
            compile_seconds, waited = dispatch.compile_seconds, feed.seconds_waited
            title = f"epoch {epoch + 1}/{config.num_epochs}"
            with tqdm(
                None, title, steps_per_epoch, False, initial=position, unit="step", disable=None
            ) as bar:
                while position < steps_per_epoch and not stop_requested():
                    state, step_metrics = dispatch(state, next(feed))
                    # Read one dispatch late: the device is never waited for.
                    sums = sums.plus(pending)
                    pending = step_metrics
                    position += len(step_metrics.loss)
                    bar.update(len(step_metrics.loss))
            sums = sums.plus(pending)
            step = epoch * steps_per_epoch + position
            finite.check_losses(sums.finite, step, checkpoints)
            if position == steps_per_epoch:
                seconds = time.perf_counter() - started
                seconds -= dispatch.compile_seconds - compile_seconds
                record = {
                    "epoch": epoch + 1,
                    **sums.means(),
                    "learning_rate": float(optimizers.learning_rate(state.opt_state)),
                    "images_per_second": (position - first) * config.batch_size / seconds,
                }
                if plan.streamed:
                    record["data_wait"] = (feed.seconds_waited - waited) / seconds
                confusion = None
                about = functools.partial(
                    Epoch,
                    number=epoch + 1,
                    num_epochs=config.num_epochs,
                    train_set=train_set,
                    validation_set=validation_set,
                    model=model,
                )
                if method.average is not None and state.ema is not None:
                    told = about(train=sums.by_class(), confusion=None)
                    decay = config.optimizer.ema_decay
                    averaged = hooks.average(method, key, on_host(state), told, decay=decay)
                    state = place(averaged, devices)
                if validation_set is not None:
                    logits_fn = jax.tree_util.Partial(model.apply, evaluation_variables(state))
                    predictions = predict(logits_fn, validation_set)
                    confusion = metrics.confusion_matrix(
                        validation_set.labels, predictions, num_classes=model.num_classes
                    )
                    record |= _validation(confusion)
                writer.write(step, record)
                print(_line(title, record))
                if method.after_epoch is not None:
                    judged = None if confusion is None else np.asarray(confusion)
                    told = about(train=sums.by_class(), confusion=judged)
                    state = place(hooks.after_epoch(method, key, on_host(state), told), devices)
                sums = _Sums()
            due = step == num_steps or (epoch + 1) % config.checkpoint.every_epochs == 0
            if step > saved and (due or stop_requested()):
                saved, host_state = step, on_host(state)
                finite.check_state(host_state, step, checkpoints)
                finite.check_logits(host_state, step, checkpoints, model, shown)
                extra = {"epoch_sums": sums._asdict()}
                checkpoints.save(step, host_state, extra=extra)
            if stop_requested() and step < num_steps:
                raise TrainingStoppedError(
                    f"stopped at step {step} of {num_steps} and saved; "
                    "rerun the same command to resume"
                )
    write_csv(workdir)


@contextlib.contextmanager
def _cleared_on_failure(workdir: str, has_config: bool) -> Iterator[None]:
    """Leaves no run directory behind if what it holds fails, but for one that had a config."""
    try:
        yield
    except Exception:
        if not has_config:
            run_directory.clear(workdir, hooks.PREPARED_FILE)
        raise


def _begin(
    config: Config,
    model: Model,
    method: Method,
    num_devices: int,
    train_set: Dataset,
    variables: Any = None,
    *,
    origin: str | None = None,
) -> tuple[Recipe, TrainState]:
    """Returns the recipe for a training set, and the state before the first step, on the host."""
    origin = origin or f"of {config.dataset.name} after validation and imbalance"
    steps_per_epoch = _steps_per_epoch(config, train_set.num_examples, num_devices, origin)
    whole = num_devices * method.rows_together
    if config.batch_size % whole:
        raise ValueError(
            f"batch_size = {config.batch_size}: method {config.method.name} keeps "
            f"{method.rows_together} rows of it together on each of {num_devices} local devices; "
            f"it must be a multiple of {whole}"
        )
    recipe = Recipe(
        model=model,
        method=method,
        loss_fn=setup.create_loss(config, train_set.class_counts),
        # The schedule counts updates of the weights.
        optimizer=setup.create_optimizer(config, steps_per_epoch=steps_per_epoch * method.replays),
        augment=setup.create_augment(config, train_set.info),
        steps_per_epoch=steps_per_epoch,
        ema_decay=None if method.average is not None else config.optimizer.ema_decay,
        mixup_alpha=config.dataset.mixup_alpha,
        repeats=config.sampler.name != "uniform",
    )
    state = create_state(
        prng.named(prng.key(config.seed), "init"),
        model,
        method,
        recipe.optimizer,
        num_rows=config.batch_size,
        ema=config.optimizer.ema_decay is not None,
        variables=variables,
        class_counts=train_set.class_counts,
    )
    return recipe, jax.device_get(state)


def _plan(config: Config, train_set: Dataset, devices: list[Device]) -> streaming.Plan:
    return streaming.plan(
        train_set.images,
        batch_size=config.batch_size,
        steps_per_block=STEPS_PER_DISPATCH,
        devices=devices,
        **{name: config.dataset[name] for name in ("streaming", "memory_budget")},
    )


class _Sums(NamedTuple):
    """What an epoch's log line is made of; a checkpoint inside an epoch keeps it."""

    loss: float = 0.0
    correct: int = 0
    examples: int = 0
    steps: int = 0
    finite: bool = True
    classes: Any = None
    """The arrays of `ClassSums`; None for a method that is not told of them."""

    def plus(self, step_metrics: StepMetrics | None) -> _Sums:
        if step_metrics is None:
            return self
        loss, correct, examples, norm, classes = jax.device_get(step_metrics)
        if classes is not None:
            classes = [np.sum(x, axis=0, dtype=np.float64) for x in classes]
            if self.classes is not None:
                classes = [a + b for a, b in zip(self.by_class(), classes, strict=True)]
        return _Sums(
            loss=self.loss + float(np.sum(loss, dtype=np.float64)),
            correct=self.correct + int(np.sum(correct)),
            examples=self.examples + int(np.sum(examples)),
            steps=self.steps + len(loss),
            finite=self.finite and bool(np.all(np.isfinite(loss)) and np.all(np.isfinite(norm))),
            classes=classes,
        )

    def by_class(self) -> ClassSums:
        return ClassSums(*(np.asarray(x, np.float64) for x in self.classes))

    def means(self) -> dict[str, float]:
        return {
            "train/loss": self.loss / self.steps,
            "train/accuracy": self.correct / self.examples,
        }


class _Dispatch:
    """Compiled steps by how many of them one call makes."""

    def __init__(self, recipe: Recipe, key: Key, devices: list[Device], *, streamed: bool) -> None:
        self._make = lambda count: make_train_step(
            recipe, key, num_steps=count, devices=devices, streamed=streamed
        )
        self._compiled: dict[int, TrainStep] = {}
        self.compile_seconds = 0.0

    def __call__(self, state: Any, block: Block) -> tuple[Any, StepMetrics]:
        count = block.rows.shape[1]
        started, is_new = time.perf_counter(), count not in self._compiled
        if is_new:
            self._compiled[count] = self._make(count)
        result = self._compiled[count](state, *block)
        if is_new:  # the call comes back when it is compiled, before it has run
            self.compile_seconds += time.perf_counter() - started
        return result


def _schedule(config: Config, train_set: Dataset, steps_per_block: int, *, start: int) -> Schedule:
    """Returns which rows each dispatch uses, from a step on."""
    batch_size = config.batch_size
    steps_per_epoch = train_set.num_examples // batch_size
    sampler = setup.create_sampler(config)

    def order(epoch: int) -> np.ndarray:
        return sampler(
            train_set.labels,
            seed=config.seed,
            epoch=epoch,
            batch_size=batch_size,
            num_steps=steps_per_epoch,
        )

    return Schedule(
        order,
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.num_epochs,
        steps_per_block=steps_per_block,
        start=start,
    )


def _steps_per_epoch(config: Config, num_examples: int, num_devices: int, origin: str) -> int:
    batch_size = config.batch_size
    if batch_size % num_devices:
        low = batch_size // num_devices * num_devices
        near = " or ".join(str(size) for size in (low, low + num_devices) if size)
        raise ValueError(
            f"batch_size = {batch_size}: must be divisible by the {num_devices} local devices; "
            f"nearest: {near}"
        )
    if batch_size > num_examples:
        raise ValueError(
            f"batch_size = {batch_size}: must be at most {num_examples}, the training examples "
            + origin
        )
    return num_examples // batch_size


def _validation(confusion: Array) -> dict[str, Any]:
    summary = metrics.summarize(confusion)
    return {
        "validation/accuracy": summary["accuracy"],
        "validation/balanced_accuracy": summary["balanced_accuracy"],
        "validation/worst_class_accuracy": summary["worst_class_accuracy"],
        "validation/recall": metrics.from_confusion(confusion).recall,
    }


def _line(title: str, record: dict[str, Any]) -> str:
    parts = [f"{title:<14}", f"loss {record['train/loss']:.4f}"]
    parts.append(f"train {record['train/accuracy']:7.2%}")
    if "validation/accuracy" in record:
        parts.append(f"validation {record['validation/accuracy']:7.2%}")
    parts.append(f"rate {record['learning_rate']:.2e}")
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "data_wait" in record:
        parts.append(f"waited {record['data_wait']:.1%} for data")
    return "  ".join(parts)


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM has come (a scheduler wants the machine)."""
    requested: list[int] = []
    try:
        previous = signal.signal(signal.SIGTERM, lambda number, frame: requested.append(number))
    except ValueError:  # not the main thread: signals are somebody else's there
        yield lambda: False
        return
    try:
        yield lambda: bool(requested)
    finally:
        signal.signal(signal.SIGTERM, previous)
