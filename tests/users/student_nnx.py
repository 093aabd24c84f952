"""A student trains an NNX model, and sees after each epoch what PGD and random pixels do to it."""

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

digits: Any = load_digits()
images, labels = np.asarray(digits.images[..., None] / 16, np.float32), np.asarray(digits.target)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm = nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.drop, self.head = nnx.Dropout(0.2, rngs=rngs), nnx.Linear(1024, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).reshape(len(x), -1)
        return self.head(self.drop(x))


@nnx.jit
def update(model, optimizer, images, labels):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    optimizer.update(model, nnx.grad(loss)(model))


model = Net(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.003), wrt=nnx.Param)

# ---------------------------------------------------------------------- what rbjax is for
import rbjax
from rbjax import attacks, perturbations, rpr

suite = {"pgd": attacks.pgd(epsilon=0.1, num_steps=10)}
for epoch in range(3):
    model.train()
    for first in range(0, 1400, 100):
        update(model, optimizer, images[first : first + 100], labels[first : first + 100])
    model.eval()
    test = rbjax.wrap(model), jax.random.key(epoch), images[1500:1700], labels[1500:1700]
    print(attacks.run_attacks(*test, attacks=suite))
    print(rpr.score(*test, max_steps=50, perturbation=perturbations.random_pixels()))
