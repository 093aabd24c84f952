"""PGD's and TRADES' form of training, with radii and weights by class, for FRL, CFA and DAFA."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rbjax import attacks
from rbjax.attacks import CompiledAttack
from rbjax.methods.trades import trades_loss
from rbjax.options import Norm
from rbjax.training.method import Output, Seen
from rbjax.typing import Array, Key, LogitsFn

FormName = Literal["pgd", "trades"]


class Form(NamedTuple):
    """What is trained on, and what is minimised."""

    name: FormName
    attack: CompiledAttack

    def inputs(
        self,
        logits_fn: LogitsFn,
        keys: Key,
        images: Array,
        labels: Array,
        *,
        epsilon: Array,
        step_size: Array | None,
    ) -> Array | tuple[Array, Array, Array]:
        """Returns what the network sees: perturbed images, in TRADES' form between clean ones.

        Args:
            logits_fn: of the network.
            keys: (B,).
            images: (B, H, W, C).
            labels: (B,).
            epsilon: (K,) radius of each class's ball.
            step_size: (K,) each class's; None: the attack's own.
        """
        length = None if step_size is None else step_size[labels]
        perturbed = self.attack(
            logits_fn, keys, images, labels, epsilon=epsilon[labels], step_size=length
        ).images
        return perturbed if self.name == "pgd" else (images, perturbed, images)

    def perturbed(self, seen: Seen) -> Output:
        """Returns what the network says of the perturbed images."""
        return seen.outputs if self.name == "pgd" else seen.outputs[1]

    def loss(self, seen: Seen, task_weight: Array, beta: Array | float) -> Array:
        """Returns each example's loss, (B,).

        `task_weight loss(f(x'), y)`, or in TRADES' form `trades_loss`.

        Args:
            seen: of `inputs`.
            task_weight: (B,).
            beta: () or (B,), of the divergence; not used in PGD's form.
        """
        if self.name == "pgd":
            return task_weight * seen.task_loss(seen.outputs.logits)
        return trades_loss(seen, beta=beta, task_weight=task_weight)


def make_form(
    name: FormName, *, epsilon: float, step_size: float | None, num_steps: int, norm: Norm
) -> Form:
    """Returns a form whose sizes are those of `pgd` or `trades` until a call gives others.

    Args:
        name: "pgd" or "trades".
        epsilon: radius of the ball.
        step_size: length of one step; None: a quarter of the radius.
        num_steps: steps of the attack.
        norm: of the ball.
    """
    start, loss = ("uniform", "cross_entropy") if name == "pgd" else ("normal", "kl")
    attack = attacks.pgd(
        epsilon=epsilon,
        step_size=step_size,
        num_steps=num_steps,
        norm=norm,
        start=start,
        loss=loss,
    )
    return Form(name, attack)
