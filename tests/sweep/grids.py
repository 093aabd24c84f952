"""A small grid for tests of `rbjax.sweep`: cells that note that they ran, and square their seed."""

from rbjax import config as schema
from rbjax import sweep


def config(seed=0, **dataset):
    config = schema.default()
    config.seed = seed
    config.dataset.update(max_train_examples=64, max_test_examples=50, **dataset)
    config.batch_size, config.num_epochs, config.diagnostics = 32, 2, 0
    config.model.name, config.model.widths = "mlp", (8,)
    config.attacks.fgsm = schema.attack("fgsm", epsilon=0.1)
    config.score.max_steps = 0
    return config


def squares(config, workdir, *, calls, fails=()):
    calls.append(config.seed)
    if config.seed in fails:
        raise fails[config.seed]
    return {"square": config.seed**2}


def four(calls):
    """Returns four cells that tell `calls` of each run."""

    def run(config, workdir):
        return squares(config, workdir, calls=calls)

    return [sweep.Cell(f"cell-{seed}", config(seed), run) for seed in range(4)]


def failing(cells, calls, fails):
    """Returns cells of which those with a seed in `fails` raise what stands there."""

    def run(config, workdir):
        return squares(config, workdir, calls=calls, fails=fails)

    return [cell._replace(run=run) for cell in cells]
