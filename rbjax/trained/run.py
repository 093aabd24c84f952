"""A trained model with what is known of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from rbjax import prng, rpr
from rbjax.blocks import Block, Blocks, Placement, block_size, check_examples
from rbjax.classifier import answer, as_classifier, keys_of
from rbjax.config import Config
from rbjax.models import Model, Variables
from rbjax.progress import ShowProgress, teller
from rbjax.sheet import Sheet
from rbjax.typing import Array, LogitsFn
from rbjax.verdicts import softmax, verdicts

CHECKPOINTS = ("best", "last")


class Predictions(NamedTuple):
    """What a model says of images; `print` it for what they are taken for."""

    classes: np.ndarray
    """(N,) int32, numbers in `Run.class_names`; -1 where the answer is of no class, such as NaN."""
    probability: np.ndarray
    """(N,) float32, what it gives that class."""
    probabilities: np.ndarray
    """(N, K) float32, what it gives every class."""

    @property
    def sheet(self) -> Sheet:
        """A class a row: images that are taken for it, and how sure the model is of them."""
        count, num_classes = len(self.classes), self.probabilities.shape[1]
        none = int(np.sum(self.classes < 0))
        taken = np.bincount(self.classes[self.classes >= 0], minlength=num_classes)
        sums = [self.probability[self.classes == label].sum() for label in range(num_classes)]
        return Sheet(
            f"predict: {count:,} images, what they are taken for"
            + (f"; {none:,} answers are of no class" if none else ""),
            {
                "class": list(map(str, range(num_classes))),
                "images": taken.tolist(),
                "mean probability": [
                    float(total) / n if n else None
                    for total, n in zip(sums, taken.tolist(), strict=True)
                ],
            },
        )

    def __repr__(self) -> str:
        return repr(self.sheet)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A trained model; `print` it to see what it is."""

    path: str
    """Of the run directory or the file."""
    model: Model
    """As it is judged: `apply` has its logits adjusted where they are to be."""
    variables: Variables
    """As it is judged, on the device."""
    class_names: tuple[str, ...]
    config: Config
    """Of the run; `model.tau_norm` and `model.logit_adjustment` are those of this model."""
    step: int
    """Updates made."""
    checkpoint: str
    """Which of the run's that is: "best", "last" or "step"."""
    history: list[dict[str, Any]]
    """The records of training, one an epoch; [] of a file, which holds none."""
    report: dict[str, Any] | None
    """The evaluation of these very weights, as of `analysis.read_report`, if there is one; of a
    file its counts, accuracies and intervals per class, under the same keys."""
    scores: rpr.Scores | rpr.Repeated | None = None
    """The scoring of these very weights, if there is one; None of a file."""
    card: dict[str, Any] | None = None
    """What the file says of the model; None for a run directory, of which `save` makes it."""

    @property
    def logits_fn(self) -> LogitsFn:
        """Images (B, H, W, C) in [0, 1] -> logits (B, K): a `jax.tree_util.Partial`."""
        return jax.tree_util.Partial(self.model.apply, self.variables)

    def predict(
        self, images: Any, *, batch_size: int | None = None, progress: ShowProgress = None
    ) -> Predictions:
        """Returns what the model says of images.

        Args:
            images: (N, H, W, C) of the model's shape, uint8 or floating in [0, 1]; an array, a
                memory map, or whatever is indexed by row numbers.
            batch_size: images at once, over all local devices; None: by the platform.
            progress: shown if True; a function is called after each block.

        Raises:
            ValueError: for another shape or range.
        """
        images = images if hasattr(images, "shape") else np.asarray(images)
        shape, wanted = tuple(images.shape), tuple(self.model.image_shape)
        if shape[1:] != wanted or not shape[0]:
            raise ValueError(
                f"images have shape {shape}; it must be (N, {', '.join(map(str, wanted))}), N at "
                "least 1"
            )
        model = as_classifier(self.logits_fn)
        examples = check_examples(
            images, np.zeros(shape[0], np.int32), count_classes=model.count_classes
        )
        placement = Placement(None)
        size = block_size(shape[0], batch_size, placement)
        blocks = Blocks(examples, placement, size, tell=teller(progress))
        model = model.placed(placement.whole)

        def ask(block: Block, images: Array) -> dict[str, Array]:
            keys = keys_of(prng.key(0), placement.split(block.padded))
            return {"logits": answer(model, keys, images)}

        logits = blocks.map(ask)["logits"]
        return Predictions(*verdicts(logits), softmax(logits))

    def __repr__(self) -> str:
        config, parts = self.config, [f"step {self.step}"]
        parts[0] += f" ({self.checkpoint})" if self.checkpoint in CHECKPOINTS else ""
        tau, adjusted = (config.model.get(name) for name in ("tau_norm", "logit_adjustment"))
        parts += [f"head tau-normalised by {tau:g}"] if tau is not None else []
        parts += [f"logits adjusted by {adjusted:g}"] if adjusted else []
        parts.append(_accuracies(self.report) if self.report else "not evaluated")
        what = f"{self.model.name} on {config.dataset.name}, {config.method.name} training"
        return f"<rbjax.Run {self.path}: {what}; {'; '.join(parts)}>"


def _accuracies(report: dict[str, Any]) -> str:
    """Returns clean accuracy and that under all attacks, in per cent."""
    labels = report["order"]
    parts = [f"clean {100 * report['results']['clean']['summary']['accuracy']:.1f} %"]
    if len(labels) == 2:
        parts += [f"{labels[1]} {100 * report['results'][labels[1]]['summary']['accuracy']:.1f} %"]
    if len(labels) > 2 and report.get("worst"):
        worst = 100 * report["worst"]["summary"]["accuracy"]
        parts.append(f"worst of {len(labels) - 1} attacks {worst:.1f} %")
    return ", ".join(parts)
