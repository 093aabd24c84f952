"""DAFA: similar classes trade their loss weights and radii, the easier one giving to the harder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax.methods.by_class import class_counts, class_sums
from rbjax.methods.forms import make_form
from rbjax.methods.idle import refuse_idle
from rbjax.methods.weight_perturbation import worst_weights
from rbjax.options import Count, Epsilon, NotNegative, StepSize, checked
from rbjax.training.method import Epoch, Method, MethodState, Seen, Setting
from rbjax.training.state import TrainState
from rbjax.typing import Array, Key, LogitsFn


class Similarity(NamedTuple):
    """What DAFA remembers."""

    weights: Array
    """(K,)."""
    probabilities: Array
    """(K, K) this epoch's sums of softmax outputs of perturbed images, by their class."""
    count: Array
    """(K,) how many images that are."""


@checked
def dafa(
    *,
    form: Literal["trades", "pgd"] = "trades",
    epsilon: Epsilon = 8 / 255,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    norm: Literal["linf", "l2"] = "linf",
    beta: NotNegative = 6.0,
    scale: NotNegative = 1.0,
    warmup_epochs: Count = 70,
    attack_batch_norm: Literal["eval", "train"] = "eval",
    weight_perturbation: NotNegative = 0.0,
) -> Method:
    """Returns distance-aware fair adversarial training.

    TRADES for the first epochs.  Over the last of them p_ij, the mean probability of class j for
    the perturbed images of class i, says which classes are near each other, and gives the weights

        w_i = 1 + scale sum_{j != i} (p_ij p_jj if p_ii < p_jj, -p_ji p_ii if p_ii > p_jj),

    which add up to K: what the harder of two classes gains the easier one loses.  From then on a
    class's clean loss, radius and step size are multiplied by its weight.  In the form "pgd" it is
    the loss of the perturbed images.

    With scale 0 it is `trades`, or `pgd`.

    Args:
        form: "trades", or "pgd", whose attack keeps to the class's radius as the paper has it; the
            authors' code steps and projects once more there, with the plain sizes.
        epsilon: radius of the ball at weight 1.
        step_size: length of one step at weight 1; None: epsilon / 4.
        num_steps: steps of the attack.
        norm: of the ball.
        beta: weight of TRADES' divergence; only in that form.
        scale: the paper's lambda: how much is traded, 1.5 for CIFAR-100; a weight that would fall
            below 0 is 0.
        warmup_epochs: epochs before the weights are computed, once; with scale 0 they stay 1.
        attack_batch_norm: batch norm while crafting: running statistics, as in the authors' code
            (both forms), or the batch's own.
        weight_perturbation: gamma of `worst_weights`; 0: none.

    Returns:
        The method; its state is the weights, and the sums that p is made of.

    Raises:
        ValueError: for beta in PGD's form, which has none.

    Source:
        Lee et al. 2024, arXiv:2401.12532, section 4; weights as in the authors' code (rucy74/DAFA,
        c60ba83), but for a tie, p_ii = p_jj, in which both classes lose there and none here.
    """
    if form == "pgd":
        refuse_idle(dafa, "form = 'trades'", beta=beta)
    trained = make_form(form, epsilon=epsilon, step_size=step_size, num_steps=num_steps, norm=norm)

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        num_classes = setting.model.num_classes
        zeros = jnp.zeros((num_classes, num_classes), jnp.float32)
        return MethodState(Similarity(zeros[0] + 1, zeros, zeros[0]), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Array | tuple[Array, ...]:
        weights = state.replicated.weights
        length = None if step_size is None else step_size * weights
        return trained.inputs(
            logits_fn, keys, images, labels, epsilon=epsilon * weights, step_size=length
        )

    def loss(seen: Seen) -> Array:
        return trained.loss(seen, seen.state.replicated.weights[seen.labels], beta)

    def sums(seen: Seen) -> tuple[Array, Array]:
        probabilities = jax.nn.softmax(trained.perturbed(seen).logits)
        num_classes = probabilities.shape[1]
        of_classes = class_sums(seen.labels, probabilities, num_classes)
        return of_classes, class_counts(seen.labels, num_classes)

    return Method(
        init=init,
        inputs=inputs,
        loss=loss,
        softmax=form == "trades",
        sums=sums,
        update=added,
        after_epoch=traded_after(warmup_epochs, scale),
        attack_batch_norm=attack_batch_norm,
        descend_at=worst_weights(weight_perturbation),
    )


def added(seen: Seen, input_gradients: Array, shared: None) -> MethodState:
    """Adds a batch to the sums of the epoch; a method's `update`."""
    del input_gradients, shared
    known: Similarity = seen.state.replicated
    probabilities, count = seen.sums
    known = known._replace(
        probabilities=known.probabilities + probabilities, count=known.count + count
    )
    return seen.state._replace(replicated=known)


def traded_after(
    warmup_epochs: int, scale: float
) -> Callable[[Key, TrainState, Epoch], TrainState]:
    """Returns a method's `after_epoch`, which forgets the sums, once weights are made of them.

    Args:
        warmup_epochs: number of the epoch whose sums they are made of.
        scale: how much is traded.
    """

    def after_epoch(key: Key, state: TrainState, epoch: Epoch) -> TrainState:
        del key
        known: Similarity = state.method_state.replicated
        if epoch.number == warmup_epochs:
            mean = known.probabilities / np.maximum(known.count, 1)[:, None]
            known = known._replace(weights=traded_weights(mean, scale))
        known = known._replace(
            probabilities=np.zeros_like(known.probabilities), count=np.zeros_like(known.count)
        )
        return state._replace(method_state=state.method_state._replace(replicated=known))

    return after_epoch


def traded_weights(probabilities: np.ndarray | Array, scale: float) -> np.ndarray:
    """Returns DAFA's weights of classes.

    Args:
        probabilities: (K, K) p_ij, the mean probability of class j for images of class i.
        scale: how much is traded.

    Returns:
        (K,) float32, of mean 1 unless one was cut off at 0.
    """
    p = np.asarray(probabilities, np.float64)
    own = np.diag(p)
    # What the harder class of a pair, the row, gains from the easier one, the column.
    gains = np.where(own[:, None] < own, p * own, 0.0)
    return np.maximum(1 + scale * (gains.sum(axis=1) - gains.sum(axis=0)), 0).astype(np.float32)
