"""Training: the whole job, top to bottom."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import methods, prng, processes, stops, validation, watch
from rbjax.attacks.outcome import counted
from rbjax.config import Config
from rbjax.data import Dataset, streaming
from rbjax.data.pipeline import Block
from rbjax.errors import StoppedError
from rbjax.progress import Progress, progress_bar
from rbjax.training import (
    beginning,
    data_card,
    finite,
    hooks,
    optimizers,
    run_directory,
    setup,
    trial,
)
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.log import MetricsLog, mend_log, read_log, write_csv
from rbjax.training.method import Epoch
from rbjax.training.selection import Selection, after_epoch
from rbjax.training.state import evaluation_variables, on_host, place
from rbjax.training.step import Recipe, StepMetrics, TrainStep, make_train_step
from rbjax.training.sums import EpochSums
from rbjax.training.writers import Writer, check_writers, create_writers
from rbjax.typing import Device, Key

STEPS_PER_DISPATCH = 4
"""Steps scanned in one dispatch: 1.1 to 1.6 times as fast as single ones on two CPU cores
(experiments/benchmarks/dispatch.py); 8 add a tenth at most, and a stop would wait longer."""


@run_directory.job
def train(config: Config, workdir: str, *, writers: Iterable[Writer] = ()) -> None:
    """Trains a model, or resumes from the newest checkpoint of the run directory.

    Args:
        config: a resolved config.
        workdir: the run directory; made if need be.
        writers: what gets the metrics besides those that `config.writers` names: objects with the
            methods `begin`, `write` and `close` of `rbjax.training.writers.Writer`.

    Raises:
        ValueError: if the directory belongs to another config, or the batch does not fit the
            devices or the dataset.
        NotFiniteError: if the loss, the weights or the logits stop being finite; the last good
            checkpoint is kept.
        StoppedError: after Ctrl-C or SIGTERM, once the state is saved.
    """
    # ------------------------------------------------------------------ data and recipe
    own = check_writers(writers)
    devices, everywhere = jax.local_devices(), jax.device_count()
    train_set, validation_set = setup.load_train(config)
    model = setup.create_model(config, train_set.info)
    method = methods.create(config.method.name, **setup.options(config, "method"))
    start = functools.partial(beginning.begin, config, model, method, everywhere)
    recipe, state = start(train_set)
    validate = _validation(config, recipe, validation_set)
    plan = _plan(config, train_set, devices)
    trial.sampler(config, train_set, recipe.steps_per_epoch)
    trial.adjustment(config, model, train_set)
    trial.step(config, recipe, state, train_set)

    # ------------------------------------------------------------------ the run directory
    # Only now, when everything could be made: a refused config leaves no directory behind.
    checkpoints = setup.checkpoints(workdir, keep=config.checkpoint.keep)
    has_config, has_begun = processes.of_first(
        lambda: beginning.prepare_directory(config, method, recipe, workdir, checkpoints)
    )
    key = prng.key(config.seed)
    best = setup.best_checkpoints(workdir, keep=config.checkpoint.keep)
    if method.prepare is not None:
        with _cleared_on_failure(workdir, has_config):
            prepared = hooks.prepare(method, key, train_set, model, workdir, has_begun=has_begun)
            train_set = prepared.train_set or train_set
            origin = f"that the method {config.method.name} prepared"
            recipe, state = start(train_set, prepared.variables, origin=origin)
            validate = _validation(config, recipe, validation_set)
        plan = _plan(config, train_set, devices)
        if not has_begun:  # so that what was prepared is not made again
            checkpoints.save(0, state, extra={"epoch_sums": EpochSums()._asdict()})
    restored = checkpoints.restore_latest(state)
    step, sums, selection, steps_per_epoch = 0, EpochSums(), Selection(), recipe.steps_per_epoch
    is_open = False  # whether what follows an epoch's last step is still to be done
    if restored is not None:
        step, state, sums = restored.step, restored.state, EpochSums(**restored.extra["epoch_sums"])
        selection = _stored_selection(restored.extra, best)
        is_open = restored.extra.get("is_open", False)
        finite.check_stored(state, step, workdir)
        processes.of_first(lambda: mend_log(workdir, restored.extra.get("log")))
    num_steps, patience = steps_per_epoch * config.num_epochs, config.schedule.early_stop_patience
    if (step == num_steps or selection.waited >= patience) and not is_open:
        print(f"{workdir}: trained already, {counted('num_steps', step)}")
        if processes.is_first():
            write_csv(workdir)  # killed just before it was written, or damaged
        return
    processes.of_first(lambda: data_card.write(workdir, config, train_set, validation_set))
    best.delete_after(-1 if selection.step is None else selection.step)
    print(_heading(f"from step {step} of {num_steps}", devices, plan, validate, workdir))

    # ------------------------------------------------------------------ the loop
    saved, unsaved_best, state = step, None, place(state, devices)
    shown, pace = train_set.take(np.arange(config.batch_size)), config.checkpoint.every_steps
    schedule = setup.batches(config, train_set, plan.steps_per_block, start=step)
    share = jax.process_index(), jax.process_count()
    feed = streaming.feed(train_set, schedule, plan, devices=devices, process=share)
    dispatch = _Dispatch(recipe, prng.named(key, "train"), jax.devices(), streamed=plan.streamed)
    told = {"model": model, "train_set": train_set, "validation_set": validation_set}
    finish = functools.partial(_finish_epoch, config, method, key, validate, devices, told)
    named = create_writers(config.writers.name, **setup.options(config, "writers"))
    kept = None if restored is None else step - is_open
    log = MetricsLog(workdir, step=kept, writers=[*named, *own], config=config.to_dict())
    with log, stops.deferred(), feed:
        while (step < num_steps and selection.waited < patience) or is_open:
            epoch, position = divmod(step - is_open, steps_per_epoch)
            title, clock = f"epoch {epoch + 1}/{config.num_epochs}", _Clock(dispatch, feed)
            position += is_open
            until = steps_per_epoch if pace is None else position + pace - (step - saved)
            left = range(position, steps_per_epoch)
            state, sums, made = _steps(dispatch, feed, state, sums, left, until, title)
            position += made
            step = epoch * steps_per_epoch + position
            finite.check_losses(sums.finite, step, checkpoints)
            is_open = position == steps_per_epoch
            if is_open:
                clocked = clock.figures(images=made * config.batch_size, streamed=plan.streamed)
                with contextlib.suppress(stops.Stop), _unwound():
                    ended = finish(state, epoch + 1, step, sums, clocked, selection)
                    is_open = False
            if position == steps_per_epoch and not is_open:
                state, selection, sums = ended.state, ended.selection, EpochSums()
                unsaved_best = ended.best or unsaved_best
                log.write(step, ended.record)
                print(_line(title, ended.record))
            is_over = not is_open and (step == num_steps or selection.waited >= patience)
            due = is_over or (epoch + 1) % config.checkpoint.every_epochs == 0
            due |= pace is not None and step - saved >= pace
            again = is_over and step == saved  # a stop left it before the epoch's end
            if again or (step > saved and (due or watch.stopping())):
                saved, host_state = step, on_host(state)
                finite.check_state(host_state, step, checkpoints)
                finite.check_logits(host_state, step, checkpoints, model, shown)
                if unsaved_best is not None:
                    best.save(*unsaved_best)
                    unsaved_best = None
                extra = {"epoch_sums": sums._asdict(), "selection": selection._asdict()}
                extra |= {"is_open": is_open, "log": read_log(workdir)}
                checkpoints.save(step, host_state, extra=extra, again=again)
            if watch.stopping() and not is_over:
                raise StoppedError(
                    f"stopped at step {step} of {num_steps} and saved; "
                    "rerun the same command to resume"
                )
    print(_ending(config, selection, epoch=step // steps_per_epoch), end="")
    if processes.is_first():
        write_csv(workdir)


def _steps(
    dispatch: _Dispatch,
    feed: Iterator[Block],
    state: Any,
    sums: EpochSums,
    steps: range,
    until: int,
    title: str,
) -> tuple[Any, EpochSums, int]:
    """Makes the steps of an epoch that are left, fewer where a checkpoint is due or a stop is."""
    position, pending = steps.start, None
    with progress_bar(title) as tell:
        tell(Progress("", position, steps.stop))
        while position < min(steps.stop, until) and not watch.stopping():
            state, step_metrics = dispatch(state, next(feed))
            # Read one dispatch late: the device is never waited for.
            sums = sums.plus(pending)
            pending = step_metrics
            position += len(step_metrics.loss)
            tell(Progress("", position, steps.stop))
    return state, sums.plus(pending), position - steps.start


class _Ended(NamedTuple):
    """What an epoch leaves."""

    state: Any
    selection: Selection
    record: dict[str, Any]
    """Of the log."""
    best: tuple[int, Any] | None
    """Step and weights to keep, where this epoch is the best so far."""


def _finish_epoch(
    config: Config,
    method: methods.Method,
    key: Key,
    validate: validation.Validation | None,
    devices: list[Device],
    about: Mapping[str, Any],
    state: Any,
    number: int,
    step: int,
    sums: EpochSums,
    clocked: Mapping[str, float],
    selection: Selection,
) -> _Ended:
    """Does what follows an epoch's last step: validates, selects, and what the method wants."""
    record = {"epoch": number, **sums.means()}
    record["learning_rate"] = float(optimizers.learning_rate(state.opt_state))
    record |= clocked
    about = {**about, "number": number, "num_epochs": config.num_epochs, "train": sums.by_class()}
    if method.average is not None and state.ema is not None:
        told, decay = Epoch(**about, confusion=None), config.optimizer.ema_decay
        averaged = hooks.average(method, key, on_host(state), told, decay=decay)
        state = place(averaged, devices)
    if method.guard is not None:
        told = Epoch(**about, confusion=None)
        state = place(hooks.guard(method, key, on_host(state), told), devices)
    matrices, best = (None, None), None
    if validate is not None:
        judged = state if jax.process_count() == 1 else on_host(state)
        figures, *matrices = validate(about["model"], judged)
        record |= figures
        selection = _select(config, selection, record, step)
        record["validation/best_epoch"] = selection.epoch
        if selection.step == step:
            judged = evaluation_variables(state, config.checkpoint.weights)
            best = step, {"variables": _copied(judged)}
    if method.after_epoch is not None:
        told = Epoch(**about, confusion=matrices[0], robust_confusion=matrices[1])
        state = place(hooks.after_epoch(method, key, on_host(state), told), devices)
    return _Ended(state, selection, record, best)


def _validation(
    config: Config, recipe: Recipe, dataset: Dataset | None
) -> validation.Validation | None:
    if dataset is None:
        return None
    images = recipe.steps_per_epoch * config.batch_size
    return validation.create(config, recipe.method, dataset, images_per_epoch=images)


def _stored_selection(extra: Mapping[str, Any], best: Checkpoints) -> Selection:
    """Returns the selection that a checkpoint keeps; without the best, if that is lost."""
    selection = Selection(**extra.get("selection", {}))
    if selection.step is None or best.has(selection.step):
        return selection
    lost = f"the weights of the best epoch, {selection.epoch}, are gone or damaged"
    print(f"{lost}; the next best will do")
    return selection._replace(step=None, epoch=None, value=None)


def _select(config: Config, before: Selection, record: Mapping[str, Any], step: int) -> Selection:
    return after_epoch(
        before,
        record,
        step=step,
        best=config.checkpoint.best,
        early_stop=config.schedule.early_stop,
        min_change=config.schedule.early_stop_min_change,
    )


def _copied(variables: Any) -> Any:
    """Returns numpy arrays of their own: those of the CPU share buffers, which the step donates."""
    return jax.tree.map(np.array, jax.device_get(variables))


def _heading(
    what: str,
    devices: list[Device],
    plan: streaming.Plan,
    validate: validation.Validation | None,
    workdir: str,
) -> str:
    """Returns the lines that say what is trained where, and how epochs are validated."""
    many = f"{len(devices)} {devices[0].device_kind} device{'s' if len(devices) > 1 else ''}"
    if jax.process_count() > 1:
        many += f" of each of {jax.process_count()} processes"
    lines = [f"{workdir}: training {what} on {many}, jax {jax.__version__}; {plan}"]
    if validate is not None:
        lines.append(f"validated after each epoch: {validate}")
    return "\n".join(lines)


def _ending(config: Config, selection: Selection, *, epoch: int) -> str:
    """Returns the lines that say why training ended early, if it did, and which epoch was best."""
    lines, schedule = [], config.schedule
    if selection.waited >= schedule.early_stop_patience:
        lines.append(
            f"stopped after epoch {epoch}: validation {schedule.early_stop} has not improved by "
            f"more than {schedule.early_stop_min_change:g} for {selection.waited} epochs"
        )
    if selection.epoch is not None:
        lines.append(f"best epoch by validation {config.checkpoint.best}: {selection.epoch}")
    return "".join(f"{line}\n" for line in lines)


def _unwound() -> contextlib.AbstractContextManager[None]:
    """Lets a stop unwind what follows an epoch, unless other processes wait for this one's part."""
    return stops.at_once() if jax.process_count() == 1 else contextlib.nullcontext()


@contextlib.contextmanager
def _cleared_on_failure(workdir: str, has_config: bool) -> Iterator[None]:
    """Leaves no run directory behind if what it holds fails, but for one that had a config."""
    try:
        yield
    except Exception:
        if not has_config and processes.is_first():
            run_directory.clear(workdir, hooks.PREPARED_FILE)
        raise


def _plan(config: Config, train_set: Dataset, devices: list[Device]) -> streaming.Plan:
    return streaming.plan(
        train_set.images,
        batch_size=config.batch_size,
        steps_per_block=STEPS_PER_DISPATCH,
        devices=devices,
        num_processes=jax.process_count(),
        **{name: config.dataset[name] for name in ("streaming", "memory_budget")},
    )


class _Clock:
    """What an epoch took, without what was compiled meanwhile."""

    def __init__(self, dispatch: _Dispatch, feed: streaming.Feed) -> None:
        self._dispatch, self._feed = dispatch, feed
        self._begun = self._times()

    def _times(self) -> np.ndarray:
        return np.array(
            [time.perf_counter(), self._dispatch.compile_seconds, self._feed.seconds_waited]
        )

    def figures(self, *, images: int, streamed: bool) -> dict[str, float]:
        wall, compiling, waited = (self._times() - self._begun).tolist()
        figures = {"images_per_second": images / (wall - compiling)}
        return {**figures, "data_wait": waited / (wall - compiling)} if streamed else figures


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


def _line(title: str, record: dict[str, Any]) -> str:
    parts = [f"{title:<14}", f"loss {record['train/loss']:.4f}"]
    parts.append(f"train {record['train/accuracy']:7.2%}")
    if "validation/accuracy" in record:
        parts.append(f"validation {record['validation/accuracy']:7.2%}")
    if "validation/robust_accuracy" in record:
        parts.append(f"robust {record['validation/robust_accuracy']:7.2%}")
    parts.append(f"rate {record['learning_rate']:.2e}")
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "data_wait" in record:
        parts.append(f"waited {record['data_wait']:.1%} for data")
    return "  ".join(parts)
