"""One network of the grid: trained on its images, then attacked class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.imbalanced_gradient_sign import stored
from rbjax import atomic, attacks, data, metrics, prng
from rbjax.attacks.suite import Entry
from rbjax.command_line import resolve
from rbjax.config import Config
from rbjax.data import Dataset, imbalance
from rbjax.losses import adversarial
from rbjax.losses.adversarial import Direction
from rbjax.sweep import Result, config_of
from rbjax.train import train
from rbjax.training import setup
from rbjax.training.predict import predict
from rbjax.typing import Array, LogitsFn

EPSILON = 0.01
CURVE = (0.0025, 0.005, 0.02, 0.04)
"""Of the fast step, beside EPSILON."""
EDGES = np.linspace(-10.0, 10.0, 41)
"""Of the histograms of scores; what lies beyond counts in the outermost bins."""
_BATCH = 250

Select = Mapping[str, Any]
"""Which images are trained on: {"counts": (K,)}, drawn by seed, or by stored order {"stored": kind,
"target": class or None, "each": n}."""


def published_loss(logits: Array, labels: Array) -> Array:
    """Returns 1 - p_y (B,), what P5's code climbs: its cross-entropy has the arguments exchanged.

    The gradient is that of cross-entropy times p_y: of the same sign, and 0 sooner.
    """
    return 1.0 - jax.nn.softmax(logits)[jnp.arange(len(labels)), labels]


def measure(
    config: Config,
    workdir: str,
    *,
    select: Select,
    attacked: Sequence[int],
    unclipped: bool,
    num_steps: int,
    test: int | None,
    strong: int | None,
    autoattack: bool,
    source: Mapping[str, Any] | None = None,
) -> Result:
    """Trains a network and attacks the classes that it is about.

    Args:
        config: not yet resolved.
        workdir: the run directory, among those of the other cells.
        select: which images it is trained on.
        attacked: the classes whose test images are attacked.
        unclipped: whether steps leave [0, 1] and climb `published_loss`, as in P5's code.
        num_steps: of the iterative attack.
        test: images of a class that are attacked; None: all.
        strong: of them, under PGD-20 and AutoAttack too; None: all.
        autoattack: whether AutoAttack is run.
        source: the balanced network whose gradients transfer: "name", "config", "select".

    Returns:
        "train_count" and "count" (K,); "epoch" of the weights; "clean", the confusion matrix of the
        whole test set (K, K); "attacked", for each attack and class how often each class was the
        answer (K,); "scores", histograms over EDGES of z_c - max z_j of images of a class and of
        others, clean and attacked.
    """
    model = _trained(config, workdir, select)
    transfer = None
    if source is not None:
        said, place = config_of(source["config"]), str(Path(workdir).parent / source["name"])
        transfer = _trained(said, place, source["select"]).logits_fn
    whole = setup.load_test(model.config)
    num_classes = whole.info.num_classes
    some = data.subsample(whole, lambda n: n if test is None else np.minimum(n, test))
    mine = some.take(np.flatnonzero(np.isin(some.labels, attacked)))
    entries = _entries(model, transfer, unclipped=unclipped, num_steps=num_steps)
    counted = {label: _first(mine, strong) for label in ("pgd20", "autoattack")}
    entries["pgd20"] = attacks.pgd(epsilon=EPSILON, step_size=EPSILON / 8, num_steps=20)
    if autoattack:
        entries["autoattack"] = attacks.autoattack(epsilon=EPSILON)
    found = attacks.run_attacks(
        model.logits_fn,
        prng.key(config.seed),
        mine.images,
        mine.labels,
        attacks=entries,
        counted={label: rows for label, rows in counted.items() if label in entries},
        example_ids=mine.example_ids,
        batch_size=_BATCH,
        journal=Path(workdir) / "attacks",
    )
    answers = {"clean": (found.clean, np.ones(len(mine.labels), bool))}
    answers["clean_first"] = (found.clean, counted["pgd20"])
    answers |= {k: (outcome.predictions, outcome.counted) for k, outcome in found.outcomes.items()}
    confusion = metrics.confusion_matrix(
        whole.labels, predict(model.logits_fn, whole, batch_size=_BATCH), num_classes
    )
    return {
        "train_count": model.train_count,
        "count": whole.class_counts,
        "epoch": model.epoch,
        "clean": np.asarray(confusion)[:, :num_classes],
        "attacked": {
            label: {
                str(c): np.bincount(
                    predictions[is_counted & (mine.labels == c) & (predictions >= 0)],
                    minlength=num_classes,
                )
                for c in attacked
            }
            for label, (predictions, is_counted) in answers.items()
        },
        "scores": _scores(model.logits_fn, entries, some, attacked),
        **({"example": _example(model, entries["fast_ascent"], mine)} if source is None else {}),
    }


class Trained(NamedTuple):
    """A network that is trained."""

    config: Config
    """Resolved."""
    logits_fn: LogitsFn
    train_count: np.ndarray
    epoch: int
    """After which the weights were kept."""


def _trained(config: Config, workdir: str, select: Select) -> Trained:
    """Trains a network, or resumes or reads it, on the images that are selected."""
    config = config.copy_and_resolve_references()
    config.dataset.subset = write_subset(config, workdir, select)
    resolved = resolve(config, workdir)
    train(resolved, workdir)
    train_set, _ = setup.load_train(resolved)
    model = setup.create_model(resolved, train_set.info)
    step, variables = setup.trained_variables(resolved, workdir, model)
    logits_fn = jax.tree_util.Partial(model.apply, jax.device_put(variables))
    epoch = step // (train_set.num_examples // resolved.batch_size)
    return Trained(resolved, logits_fn, train_set.class_counts, epoch)


def write_subset(config: Config, workdir: str, select: Select) -> str:
    """Writes the ids of the training images beside the run directories, and returns the file."""
    file = Path(workdir).parent / "subsets" / f"{Path(workdir).name}.npz"
    if not file.exists():
        plain = config.copy_and_resolve_references()
        plain.dataset.update(subset=None, max_train_examples=None)
        if "stored" in select:
            plain.dataset.update(validation_fraction=0.0, validation_from="classes")
            plain.schedule.early_stop = "none"
            whole = setup.load_train(resolve(plain, workdir))[0]
            rows = stored.rows(whole.labels, whole.index, **select)
        else:
            whole = setup.load_train(resolve(plain, workdir))[0]
            counts = np.asarray(select["counts"])
            rows = imbalance.select(whole.labels, whole.example_ids, counts, seed=config.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_npz(file, example_ids=whole.example_ids[rows])
    return str(file)


def _entries(
    model: Trained, transfer: LogitsFn | None, *, unclipped: bool, num_steps: int
) -> dict[str, Entry]:
    """Returns the attacks of P5, and the readings of what it does not say."""
    loss = published_loss if unclipped else "cross_entropy"

    def step(number: int, direction: Direction, epsilon: float = EPSILON, **options: Any) -> Any:
        return attacks.iterative_gradient_sign(
            epsilon=epsilon,
            step_size=epsilon,
            num_steps=number,
            direction=direction,
            projected=False,
            **{"clipped": not unclipped, "loss": loss, **options},
        )

    entries: dict[str, Entry] = {}
    directions: tuple[Direction, Direction] = ("ascent", "descent")
    for direction in directions:
        for name, number in (("fast", 1), ("iterative", num_steps)):
            entries[f"{name}_{direction}"] = step(number, direction)
            if transfer is not None:
                crafted = attacks.transfer(step(number, direction), transfer)
                entries[f"transfer_{name}_{direction}"] = crafted
    entries["projected"] = attacks.iterative_gradient_sign(epsilon=EPSILON, direction="ascent")
    entries["clipped" if unclipped else "unclipped"] = step(1, "ascent", clipped=unclipped)
    # A step of epsilon on inputs that are divided by their deviation.
    smaller = EPSILON * float(np.mean(setup.info(model.config).std))
    entries["of_normalised"] = step(1, "ascent", smaller)
    for epsilon in CURVE:
        entries[f"epsilon_{epsilon}"] = step(1, "ascent", epsilon)
    return entries


def _first(dataset: Dataset, number: int | None) -> np.ndarray:
    """Returns which examples are among the first so many of their class, (N,) bool."""
    if number is None:
        return np.ones(dataset.num_examples, bool)
    chosen = np.zeros(dataset.num_examples, bool)
    for label in np.unique(dataset.labels):
        chosen[np.flatnonzero(dataset.labels == label)[:number]] = True
    return chosen


def _scores(
    logits_fn: LogitsFn, entries: Mapping[str, Any], dataset: Dataset, attacked: Sequence[int]
) -> dict[str, Any]:
    """Returns the histograms of each attacked class's score, z_c - max_{j != c} z_j."""
    logits = _answers(logits_fn, dataset)
    mine = dataset.take(np.flatnonzero(np.isin(dataset.labels, attacked)))
    moved = {k: _answers(logits_fn, mine, entries[k]) for k in _SCORED if k in entries}

    def histogram(logits: np.ndarray, target: int) -> np.ndarray:
        labels = jnp.full(len(logits), target, jnp.int32)
        score = -np.asarray(adversarial.margin(jnp.asarray(logits), labels))
        return np.histogram(np.clip(score, EDGES[0], EDGES[-1]), EDGES)[0]

    return {
        str(c): {
            "own": histogram(logits[dataset.labels == c], c),
            "others": histogram(logits[dataset.labels != c], c),
            **{label: histogram(found[mine.labels == c], c) for label, found in moved.items()},
        }
        for c in attacked
    }


def _answers(logits_fn: LogitsFn, dataset: Dataset, attack: Any = None) -> np.ndarray:
    """Returns the logits (N, K) of images, or of what an attack makes of them."""
    found = []
    for start in range(0, dataset.num_examples, _BATCH):
        rows = slice(start, start + _BATCH)
        images = jnp.asarray(dataset.images[rows], jnp.float32) / 255
        if attack is not None:
            images = attack(logits_fn, prng.key(0), images, dataset.labels[rows]).images
        found.append(np.asarray(logits_fn(images)))
    return np.concatenate(found)


def _example(model: Trained, attack: Any, dataset: Dataset) -> dict[str, Any] | None:
    """Returns an image that the attack fools the network by, the first by id: for figure 3.

    Args:
        model: the network.
        attack: of one step.
        dataset: with the image.

    Returns:
        "image", its uint8 values as a hexadecimal number, and "moved", 1 + the sign of what the
        attack adds to each; "shape", "label", "before" and "after". None if nothing is fooled.
    """
    some = dataset.take(np.arange(min(_BATCH, dataset.num_examples)))
    images, labels = jnp.asarray(some.images[:], jnp.float32) / 255, jnp.asarray(some.labels)
    found = attack(model.logits_fn, prng.key(0), images, labels)
    before = np.argmax(np.asarray(model.logits_fn(images)), axis=-1)
    rows = np.flatnonzero((before == some.labels) & np.asarray(found.fooled))
    if not rows.size:
        return None
    row = int(rows[0])
    moved = np.sign(np.asarray(found.images[row] - images[row])).astype(np.int8) + 1
    return {
        "image": np.asarray(some.images[row]).tobytes().hex(),
        "moved": moved.astype(np.uint8).tobytes().hex(),
        "shape": some.images[row].shape,
        "label": int(some.labels[row]),
        "before": int(before[row]),
        "after": int(found.predictions[row]),
    }


_SCORED = ("fast_ascent", "transfer_fast_ascent")
"""Attacks of which scores are kept."""
