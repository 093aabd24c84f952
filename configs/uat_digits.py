"""Universal adversarial training on scikit-learn's handwritten digits: rbjax in two minutes.

Command: python -m rbjax.main --config=configs/uat_digits.py
Trains, attacks (FGSM, PGD-20, a universal perturbation crafted anew), scores every test image's
RPR and prints one table per class.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 64
    config.num_epochs = 30
    config.dataset.name = "digits"
    config.dataset.validation_fraction = 0.1
    config.dataset.rotation_degrees = 10.0
    config.model.name = "simple_cnn"
    config.method.name = "universal"
    config.method.epsilon = 0.1
    config.optimizer.name = "adam"
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-4
    config.schedule.max_learning_rate = 3e-3
    config.schedule.half_cycle_epochs = 5.0
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", num_steps=20)
    config.attacks.universal = schema.attack("universal", num_epochs=10)
    config.score.max_steps = 250
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 2
    config.schedule.half_cycle_epochs = 1.0
    config.attacks.pgd20.num_steps = 5
    config.score.max_steps = 20
