"""Jobs of a few seconds, one a variant: `--config=experiments/benchmarks/faults/job.py:free`."""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    """Returns a variant of the job."""
    config = schema.default()
    config.batch_size, config.num_epochs, config.diagnostics = 64, 40, 0
    config.dataset.update(name="digits", max_train_examples=512, max_test_examples=256)
    config.dataset.update(validation_fraction=0.1, rotation_degrees=5.0)
    config.model.update(name="mlp", widths=(16,))
    config.validation.attack = "none"
    config.optimizer.ema_decay = 0.9
    config.score.max_steps = 0
    return schema.vary(
        config,
        variant,
        standard=lambda config: None,
        universal=_universal,
        free=_free,
        evaluation=_evaluation,
        scoring=_scoring,
        corruptions=_corruptions,
        all=_all,
        threads=_threads,
    )


def _universal(config: schema.Config) -> None:
    config.method.update(name="universal", epsilon=0.1)


def _free(config: schema.Config) -> None:
    config.method.update(name="free", epsilon=0.1, num_replays=2)


def _evaluation(config: schema.Config) -> None:
    config.task, config.batch_size = "evaluate", 32
    for name in ("pgd", "apgd"):
        config.attacks[name] = schema.attack(name, epsilon=0.1, norm="linf", num_steps=300)
    config.attacks.universal = schema.attack("universal", epsilon=0.1, norm="linf", num_epochs=5)


def _scoring(config: schema.Config) -> None:
    config.task = "score"
    config.score.update(max_steps=20_000, block_size=32)


def _corruptions(config: schema.Config) -> None:
    config.task, config.batch_size = "evaluate", 32
    config.corruptions.update(name="gaussian_noise+contrast+shot_noise", profile="mnist")


def _all(config: schema.Config) -> None:
    """A run directory with everything in it: what is damaged."""
    config.num_epochs = 3
    config.method.update(name="universal", epsilon=0.1)
    config.attacks.pgd = schema.attack("pgd", num_steps=5)
    config.attacks.universal = schema.attack("universal", num_epochs=1, max_examples=64)
    config.corruptions.update(name="gaussian_noise", profile="mnist")
    config.score.max_steps = 20


def _threads(config: schema.Config) -> None:
    """An image of one channel under PGD in l2, whose sums XLA splits by threads."""
    config.num_epochs = 2
    config.method.update(name="pgd", epsilon=0.5, norm="l2", num_steps=3)
    config.attacks.pgd = schema.attack("pgd", num_steps=5)
    config.score.max_steps = 20
