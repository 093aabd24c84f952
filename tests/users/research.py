"""A researcher's method: answers for an image and its FGSM neighbour should agree."""

import jax
import jax.numpy as jnp

from rbjax import losses, methods
from rbjax.options import Epsilon


def agreeing(*, epsilon: Epsilon, beta: float = 3.0) -> methods.Method:
    """Minimises `loss(f(x), y) + beta * KL(f(x + epsilon sign(gradient)) || f(x))`."""

    def inputs(logits_fn, keys, state, images, labels):
        loss = losses.create("cross_entropy")
        gradient = jax.grad(lambda x: jnp.sum(loss(logits_fn(x), labels)))(images)
        return images, jnp.clip(images + epsilon * jnp.sign(gradient), 0, 1)

    def loss(seen):
        clean, moved = (jax.nn.log_softmax(output.logits) for output in seen.outputs)
        distance = jnp.sum(jnp.exp(moved) * (moved - clean), axis=-1)
        return seen.task_loss(seen.outputs[0].logits) + beta * distance

    return methods.Method(inputs=inputs, loss=loss)
