"""AutoAttack: four attacks in a row, each on the images that are still robust.

A driver: it loops on the host over passes (one attack, or one target of it), each over blocks of a
few fixed sizes, so that the images that are left fill them and little is compiled. Images stay as
they were given, and only adversarial ones are kept beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rbjax import prng
from rbjax.attacks import attack, passes
from rbjax.attacks.norms import check_size
from rbjax.attacks.outcome import AutoAttackResult, Setting, Verdict
from rbjax.attacks.passes import Run
from rbjax.blocks import Blocks, Placement, block_size, check_examples
from rbjax.classifier import Model, as_classifier
from rbjax.inputs import check_real
from rbjax.options import Epsilon, Norm, checked, named
from rbjax.progress import Progress, ShowProgress, teller
from rbjax.tables import lookup
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """AutoAttack as an entry of `run_attacks`: it attacks a whole dataset itself."""

    epsilon: float
    norm: str
    version: str

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
        """Runs `run_autoattack`, which has the same options; images are kept on request."""
        fields = dataclasses.asdict(self)
        fields |= {"journal": journal, "keep": keep_images}
        run = _run(logits_fn, key, images, labels, **fields, **options)
        return run.attacked() if keep_images else run.verdict()


@checked
def autoattack(
    *,
    epsilon: Epsilon,
    norm: Norm = "linf",
    version: Literal["standard", "plus", "rand"] = "standard",
) -> AutoAttack:
    """Returns AutoAttack, to be run on a whole dataset.

    Args:
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        version: which attacks, with which parameters, a name in `VERSIONS`; "rand" is for
            randomised classifiers.

    Returns:
        An entry of `run_attacks`.

    Raises:
        ValueError: for an option out of range.
    """
    _check_options(epsilon, norm, version)
    return AutoAttack(float(epsilon), norm, version)


@named
def run_autoattack(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: np.ndarray | Array,
    *,
    epsilon: float,
    norm: str = "linf",
    version: str = "standard",
    example_ids: np.ndarray | Array | None = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    keep_images: bool = False,
    progress: ShowProgress = None,
) -> AutoAttackResult:
    """Runs AutoAttack on a dataset, each attack on the images that are still robust.

    "standard" is the version of the official code since August 2020, with its parameters: APGD-CE
    (100 steps), APGD-T and FAB-T (100 steps for each of 9 targets) and Square (5,000 queries).
    In l1 APGD-CE has 5 restarts and APGD-T 5 targets, and their balls shrink to the one asked for.
    "plus" adds restarts, APGD-DLR and FAB; "rand" is for randomised classifiers, as
    `attacks.randomized` makes them: APGD-CE and APGD-DLR on averaged gradients.

    Where the attacks follow the algorithms rather than the official code, `apgd`, `fab` and
    `square` say so. A result does not depend on the batch size, the number of devices or the order
    of the images, up to what float32 gradients move with the shape of a batch. With several
    processes (`jax.distributed`) each is given all images, attacks its share of the blocks, and
    returns all results.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier. With
            `Partial(model.apply, variables)` new weights do not compile again.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; an array, a memory map, or whatever is
            indexed by slices and row numbers. They are read block by block.
        labels: (N,) integers, the true classes.
        epsilon: radius of the ball, in pixel units; at most 1 in l-inf.
        norm: `"linf"`, `"l2"` or `"l1"`.
        version: a name in `VERSIONS`.
        example_ids: (N,) integers; None: the row numbers.
        batch_size: images attacked at once, over all devices; None: 128 on CPU, 1,024 elsewhere.
        devices: the `jax.Device`s to use; None: all local ones.
        journal: a folder in which finished blocks are kept. Repeat the call with the same folder to
            resume; another call is refused.
        keep_images: whether to keep the adversarial images, float32 in memory.
        progress: shown if True; a function is called after each pass: one attack, or one target
            of it.

    Returns:
        Which images are robust, the accuracy after each attack and the passes, and the
        adversarial images if they are kept.

    Raises:
        ValueError: for wrong shapes or values, for "rand" with a classifier that is not
            randomised, and for another call's journal.

    Source:
        Croce and Hein 2020, arXiv:2003.01690, section 5.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.run_autoattack(
        ...     bright, jax.random.key(0), images, labels, epsilon=0.2
        ... )
        >>> found.robust.tolist()  # 0.4 is less than 0.2 from 0.5
        [True, False, True]
    """
    run = _run(
        logits_fn,
        key,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        version=version,
        example_ids=example_ids,
        batch_size=batch_size,
        devices=devices,
        journal=journal,
        progress=progress,
        keep=keep_images,
    )
    return run.result(f"run_autoattack, {version}", Setting(norm, epsilon, ""))


def _run(
    logits_fn: Model,
    key: Key,
    images: Any,
    labels: Any,
    *,
    epsilon: float,
    norm: str,
    version: str,
    example_ids: Any = None,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    progress: ShowProgress = None,
    keep: bool,
) -> Run:
    """Returns a finished run; `keep` says whether adversarial images are wanted."""
    _check_options(epsilon, norm, version)
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        images,
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    if version == "rand" and not model.is_random:
        raise ValueError(
            "version 'rand' is for randomised classifiers, and logits_fn is a plain function; wrap "
            "one in attacks.randomized, or take version 'standard'"
        )
    placement = Placement(devices)
    size = block_size(len(examples.labels), batch_size, placement, journal)
    blocks = Blocks(examples, placement, size).kept_in(
        journal, key, call="autoattack", model=logits_fn, attack=[epsilon, norm, version], keep=keep
    )
    tell, run = teller(progress), Run(model.placed(placement.whole), blocks, epsilon, keep)
    parts = passes.passes(version, norm, examples.num_classes)
    for number, part in enumerate(parts):
        run.apply(part, prng.named(key, part.attack), f"{number:02d}-{part.attack}")
        if tell is not None:
            robust = int(run.robust.sum())
            tell(Progress(part.attack, number + 1, len(parts), {"robust": robust}))
    run.notes = passes.notes(version, norm, examples.num_classes)
    return run


def _check_options(epsilon: float, norm: str, version: str) -> None:
    lookup(dict.fromkeys(("linf", "l2", "l1")), norm, what="norm")
    check_size("epsilon", check_real("epsilon", epsilon, low=float("-inf")), norm)
    lookup(passes.VERSIONS, version, what="version")
