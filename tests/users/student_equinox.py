"""A student trains an Equinox model, and sees after each epoch what PGD and noise do to it."""

from typing import Any

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

digits: Any = load_digits()
images, labels = np.asarray(digits.images[..., None] / 16, np.float32), np.asarray(digits.target)
conv, head = jax.random.split(jax.random.key(0))
model = eqx.nn.Sequential(
    [
        eqx.nn.Conv2d(1, 16, 3, padding=1, key=conv),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Dropout(0.2),
        eqx.nn.Linear(1024, 10, key=head),
    ]
)
optimizer = optax.adam(0.003)
state = optimizer.init(eqx.filter(model, eqx.is_array))


@eqx.filter_jit
def update(model, state, key, images, labels):
    def loss(model):
        keys = jax.random.split(key, len(images))
        logits = jax.vmap(lambda x, key: model(x, key=key))(jnp.moveaxis(images, -1, 1), keys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(eqx.filter_grad(loss)(model), state)
    return eqx.apply_updates(model, updates), state


# ---------------------------------------------------------------------- what rbjax is for
import rbjax
from rbjax import attacks, perturbations, rpr

suite = {"pgd": attacks.pgd(epsilon=0.1, num_steps=10)}
for epoch in range(3):
    for first in range(0, 1400, 100):
        batch = images[first : first + 100], labels[first : first + 100]
        model, state = update(model, state, jax.random.key(1400 * epoch + first), *batch)
    test = rbjax.wrap(model), jax.random.key(epoch), images[1500:1700], labels[1500:1700]
    print(attacks.run_attacks(*test, attacks=suite))
    print(rpr.score(*test, max_steps=50, perturbation=perturbations.random_pixels()))
