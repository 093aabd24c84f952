"""Checks that catch a false sense of robustness: is a model robust, or is it hard to attack?

A few hundred images are enough. `probe.py` queries and attacks the model, `findings.py` says what
follows from the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rbjax import prng
from rbjax.attacks.attack import CompiledAttack
from rbjax.attacks.findings import Finding, Findings, judge
from rbjax.attacks.norms import check_size
from rbjax.attacks.probe import Probe, gather
from rbjax.attacks.square import square
from rbjax.blocks import Blocks, Placement, block_size, check_examples
from rbjax.classifier import Model, as_classifier
from rbjax.inputs import check_real
from rbjax.options import Norm, named
from rbjax.progress import ShowProgress, teller
from rbjax.tables import lookup
from rbjax.typing import Array, Key


@named
def diagnose(
    logits_fn: Model,
    key: Key,
    images: np.ndarray | Array,
    labels: np.ndarray | Array,
    *,
    epsilon: float,
    norm: Norm = "linf",
    example_ids: np.ndarray | Array | None = None,
    batch_size: int = 128,
    devices: Sequence[Any] | None = None,
    source: Model | None = None,
    black_box: CompiledAttack | None = None,
    num_queries: int = 300,
    progress: ShowProgress = None,
) -> Findings:
    """Looks for signs that attacks fail for other reasons than that a model is robust.

    Gradients that vanish, mislead or are noise; a loss that saturates; answers that change from
    call to call or with the batch; probabilities in place of logits. None of the checks proves
    anything of a model that passes: `run_autoattack` is the measurement, this comes before it.

    Args:
        logits_fn: images -> logits (B, K), or a randomised classifier, as `randomized` makes it.
        key: one key.
        images: (N, H, W, C) uint8, or floating in [0, 1]; a few hundred.
        labels: (N,) integers, the true classes.
        epsilon: radius of the ball, in pixel units, above 0.
        norm: `"linf"`, `"l2"` or `"l1"`.
        example_ids: (N,) integers, what keys are derived from; None: the row numbers.
        batch_size: images at once, over all devices.
        devices: the `jax.Device`s to use; None: all local ones.
        source: another model of the same classes, from which attacks are transferred.
        black_box: an attack without gradients in that norm; None: the square attack (none in l1).
        num_queries: of the square attack.
        progress: shown if True; a function is called after each block of each check.

    Returns:
        One finding a check, failed or passed; a list that prints as a table.

    Raises:
        ValueError: for wrong shapes or values.

    Source:
        Carlini et al. 2019, arXiv:1902.06705, sections 3 to 5; Athalye, Carlini, Wagner 2018,
        arXiv:1802.00420, section 3.1; Croce and Hein 2020, arXiv:2003.01690, whose code warns of
        randomness, probabilities and zero gradients.

    Example:
        >>> images = np.array([0.2, 0.4, 0.9], np.float32).reshape(3, 1, 1, 1)  # of one pixel
        >>> labels = np.array([0, 0, 1])  # bright or not
        >>> def bright(x):
        ...     return jnp.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], axis=1)
        ...
        >>> found = rbjax.attacks.diagnose(
        ...     bright, jax.random.key(0), images, labels, epsilon=0.2, num_queries=10
        ... )
        >>> [finding.name for finding in found if finding.name == "finite"]
        ['finite']
    """
    lookup(dict.fromkeys(("linf", "l2", "l1")), norm, what="norm")
    check_size("epsilon", check_real("epsilon", epsilon), norm)
    if epsilon == 0:
        raise ValueError("epsilon is 0; it must be above 0: nothing is attacked without a ball")
    key = prng.check(key)
    model = as_classifier(logits_fn)
    examples = check_examples(
        np.asarray(images),
        labels,
        count_classes=model.count_classes,
        example_ids=example_ids,
    )
    if black_box is None and norm != "l1":
        black_box = square(epsilon=epsilon, norm=norm, num_queries=num_queries)
    placement = Placement(devices)
    size = block_size(len(examples.labels), batch_size, placement)
    blocks = Blocks(examples, placement, size, tell=teller(progress, "checks"))
    probe = Probe(key, blocks, norm, float(epsilon))
    model = model.placed(placement.whole)
    other = None if source is None else as_classifier(source).placed(placement.whole)
    return Findings(
        judge(gather(probe, model, other, black_box)),
        norm=norm,
        epsilon=float(epsilon),
        num_examples=len(examples.labels),
    )


def summary_of(findings: list[Finding], *, num_examples: int) -> str:
    """Returns how many checks failed, and below what each of them saw and what to do.

    Args:
        findings: of `diagnose`.
        num_examples: that were looked at.

    Returns:
        Lines without a line break at the end.
    """
    failed = [finding for finding in findings if not finding.passed]
    said = (
        f"{len(findings)} checks for a false sense of robustness, {num_examples} images: "
        f"{len(failed) or 'none'} failed"
    )
    return "\n".join([said, format_findings(failed)]) if failed else said


def format_findings(findings: list[Finding]) -> str:
    """Returns findings as lines for a terminal, with the advice under what failed.

    Args:
        findings: of `diagnose`.

    Returns:
        Lines without a line break at the end.
    """
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        verdict = "ok" if finding.passed else "FAILED"
        lines.append(f"{verdict:6}  {finding.name:{width}}  {finding.seen}")
        if not finding.passed:
            lines.append(f"{'':6}  {'':{width}}  -> {finding.advice}")
    return "\n".join(lines)
