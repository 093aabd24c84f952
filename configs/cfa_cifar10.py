"""CFA on CIFAR-10 (Wei et al. 2023), with ResNet-18: radii that fit how robust each class is.

Command: python -m rbjax.main --config=configs/cfa_cifar10.py
The authors' recipe: 8/255 in linf, 10 steps of 2/255, calibrated from epoch 10 on, an average of
the fair epochs from epoch 50 on with decay 0.85 and threshold 0.2, SGD with momentum 0.9 and weight
decay 5e-4, batches of 128, rate 0.1 divided by 10 at epochs 100 and 150 of 200, pad-and-crop by 4
and horizontal flips, 2 % of train held out.  They craft with batch norm in training mode; here it
is in evaluation mode, as in pgd_cifar10.py.
Variants: `:trades`, TRADES' form with beta 6; `:small`, the simple CNN at 4/255 on 5,000 images,
minutes on two CPU cores; `:smoke`, about a minute there.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 200
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "cfa"
    config.method.form = "pgd"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.method.warmup_epochs = 10
    config.method.average_from = 50
    config.method.average_threshold = 0.2
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.optimizer.ema_decay = 0.85
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (100, 150)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, trades=_trades, small=_small, smoke=_smoke)


def _trades(config: schema.Config) -> None:
    config.method.form = "trades"
    config.method.beta = 6.0


def _small(config: schema.Config) -> None:
    config.num_epochs = 20
    config.dataset.max_train_examples = 5000
    config.dataset.max_test_examples = 2000
    config.model.name = "simple_cnn"
    config.method.epsilon = 4 / 255
    config.method.step_size = 1 / 255
    config.method.warmup_epochs = 5
    config.method.average_from = 10
    config.method.average_threshold = 0.05  # the worst class of so small a network is far below 0.2
    config.optimizer.name = "adam"
    config.optimizer.weight_decay = 0.0
    config.schedule.name = "cosine"
    config.schedule.milestones = None
    config.schedule.learning_rate = 1e-3
    config.attacks.fgsm.epsilon = 4 / 255
    config.attacks.pgd20.epsilon = 4 / 255
    config.attacks.pgd20.step_size = 1 / 255


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 2
    config.dataset.validation_fraction = 0.002
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_steps = 2
    config.schedule.learning_rate = 0.01
    config.method.warmup_epochs = 1
    config.method.average_from = 1
    config.method.average_threshold = 0.0
    config.attacks.pgd20.num_steps = 2
