"""A3, adaptive auto attack: rounds of one attack, ever longer, on ever fewer images.

A driver, as AutoAttack is, of the same parts; what its rounds are stands in `rounds.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rbjax import prng
from rbjax.attacks import attack
from rbjax.attacks.norms import check_size
from rbjax.attacks.outcome import AutoAttackResult, Setting, Verdict
from rbjax.attacks.rounds import NUM_ROUNDS, Rounds
from rbjax.blocks import Blocks, Placement, block_size, check_examples
from rbjax.classifier import Model, as_classifier
from rbjax.inputs import check_real
from rbjax.options import Epsilon, checked, named
from rbjax.progress import Progress, ShowProgress, teller
from rbjax.tables import lookup
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class AdaptiveAutoAttack:
    """A3 as an entry of `run_attacks`: it attacks a whole dataset itself."""

    epsilon: float
    norm: str

    @property
    def threat(self) -> attack.Threat:
        """The set that the images of this attack lie in."""
        return attack.Threat(self.norm, self.epsilon, box=True)

    def run(
        self,
        logits_fn: Model,
        key: Key,
        images: Any,
        labels: Any,
        *,
        journal: str | Path | None = None,
        keep_images: bool = False,
        **options: Any,
    ) -> Verdict:
        """Runs `run_adaptive_autoattack`; images are kept on request."""
        fields = dataclasses.asdict(self)
        fields |= {"journal": journal, "keep": keep_images}
        run = _run(logits_fn, key, images, labels, **fields, **options)
        return run.attacked() if keep_images else run.verdict()


@checked
def adaptive_autoattack(
    *, epsilon: Epsilon, norm: Literal["linf", "l2"] = "linf"
) -> AdaptiveAutoAttack:
    """Returns A3, adaptive auto attack, to be run on a whole dataset.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"` or `"l2"`.

    Returns:
        An entry of `run_attacks`.

    Raises:
        ValueError: for an option out of range.
    """
    _check_options(epsilon, norm)
    return AdaptiveAutoAttack(float(epsilon), norm)


@named
def run_adaptive_autoattack(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: np.ndarray | Array,
    *,
    epsilon: float,
    norm: str = "linf",
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    keep_images: bool = False,
    progress: ShowProgress = None,
) -> AutoAttackResult:
    """Runs A3, adaptive auto attack, on a dataset: ever longer rounds on ever fewer images.

    Thirteen rounds, each from random starts on the images that are still robust. In a round the
    first steps, of the length epsilon, climb <w, z> for random weights w of the logits z, the
    others the margin max_{j != y} z_j - z_y, in steps that fall from epsilon like a cosine. From
    the third round on two of the weights are not random: the label's, and that of a wrong class,
    another one each time; they have the signs that they had where random ones led to a mistake.
    From the fourth on only the images whose margins came nearest to 0 are attacked, at last 3 % of
    them, in 74 steps and 50 repeats. Where first steps alone fool many the rounds are others: all
    images, more of such steps, fewer others. Its authors report 11 times fewer passes forwards and
    6 times fewer backwards than AutoAttack's, and robust accuracies 0.1 points below it.

    A result does not depend on the batch size, the number of devices or the order of the images, up
    to what float32 gradients move with the shape of a batch. It does on which images there are:
    they say which directions lead somewhere, and which of them are left out.

    Differs from the official code: that draws the label's weight once for a batch, begins with the
    second of the wrong classes, makes more repeats and steps on ImageNet, and asks for the logits
    once more after each step, where here the next step's pass tells them.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier. With
            `Partial(model.apply, variables)` new weights do not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by slices and row numbers. They are read block by block.
        labels: (N,) integers, the true classes.
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"` or `"l2"`.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images attacked at once, over all devices; None: 128 on CPU, 1,024 elsewhere.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished blocks are kept. Repeat the call with the same folder to
            resume; another call is refused.
        keep_images: whether to keep the adversarial images, float32 in memory.
        progress: shown if True; a function is called after each round.

    Returns:
        Which images are robust, the accuracy after each round and the passes, and the
        adversarial images if they are kept.

    Raises:
        ValueError: for wrong shapes or values, and for another call's journal.

    Source:
        Liu et al. 2022, arXiv:2203.05154; the rounds are those of their code,
        liuye6666/adaptive_auto_attack at c3650cd.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.run_adaptive_autoattack(
        ...     bright, jax.random.key(0), images, labels, epsilon=0.2
        ... )
        >>> found.robust.tolist()
        [True, False, True]
    """
    run = _run(
        logits_fn,
        key,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        example_ids=example_ids,
        batch_size=batch_size,
        devices=devices,
        journal=journal,
        progress=progress,
        keep=keep_images,
    )
    return run.result("run_adaptive_autoattack", Setting(norm, epsilon, ""))


def _run(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: Any,
    *,
    epsilon: float,
    norm: str,
    example_ids: Any = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
    keep: bool,
) -> Rounds:
    """Returns a finished run; `keep` says whether adversarial images are wanted."""
    _check_options(epsilon, norm)
    key, model = prng.check(key), as_classifier(logits_fn)
    examples = check_examples(
        images, labels, count_classes=model.count_classes, example_ids=example_ids
    )
    placement = Placement(devices)
    blocks = Blocks(examples, placement, block_size(len(examples.labels), batch_size, placement))
    blocks = blocks.kept_in(
        journal, key, call="adaptive_autoattack", model=logits_fn, attack=[epsilon, norm], keep=keep
    )
    tell, run = teller(progress), Rounds(model.placed(placement.whole), blocks, epsilon, norm, keep)
    for number in range(NUM_ROUNDS):
        run.apply_round(number, prng.named(key, "adaptive_autoattack"))
        if tell is not None:
            robust = int(run.robust.sum())
            tell(Progress(f"round {number}", number + 1, NUM_ROUNDS, {"robust": robust}))
    return run


def _check_options(epsilon: float, norm: str) -> None:
    lookup(dict.fromkeys(("linf", "l2")), norm, what="norm")
    check_size("epsilon", check_real("epsilon", epsilon, low=float("-inf")), norm)
