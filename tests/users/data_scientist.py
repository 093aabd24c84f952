"""A data scientist scores and corrupts a random forest of digits from 0 to 16."""

from typing import Any

import jax
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

digits: Any = load_digits()
forest = RandomForestClassifier(random_state=0).fit(digits.data[:1400], digits.target[:1400])

# ---------------------------------------------------------------------- what rbjax is for
import rbjax
from rbjax import corruptions, perturbations, rpr

model, images = rbjax.wrap(forest, std=1 / 16), digits.images[1500:, ..., None] / 16
test = model, jax.random.key(0), images, digits.target[1500:]
print(rpr.score(*test, max_steps=100, perturbation=perturbations.random_pixels()))
some = {"gaussian_noise": (1, 3, 5), "contrast": (1, 3, 5)}
print(corruptions.run_corruptions(*test, profile="cifar", severities=some))
