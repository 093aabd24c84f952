"""PGD adversarial training of ResNet-18 on CIFAR-10, for class-wise robustness (paper P2).

Command: python -m rbjax.main --config=configs/pgd_cifar10.py
The usual recipe: 8/255 in linf, 10 steps of 2/255 from a random start, batch norm in evaluation
mode while crafting, SGD with momentum 0.9 and weight decay 5e-4, batches of 128, rate 0.1 divided
by 10 at epochs 75 and 90 of 100, pad-and-crop by 4 and horizontal flips.  2 % of train is held out.
Variants, P2's optimisation factors (it names them without numbers, which are ours): `:adam`, at a
hundredth of the rate; `:cyclic`, one triangle up to 0.1 and back; `:no_decay`, no weight decay.
`:smoke`, the simple CNN, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 100
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "pgd"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (75, 90)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(
        config, variant, adam=_adam, cyclic=_cyclic, no_decay=_no_decay, smoke=_smoke
    )


def _adam(config: schema.Config) -> None:
    config.optimizer.name = "adam"
    config.schedule.learning_rate = 1e-3


def _cyclic(config: schema.Config) -> None:
    config.schedule.name = "triangular"
    config.schedule.milestones = None
    config.schedule.learning_rate = 1e-3
    config.schedule.max_learning_rate = 0.1
    config.schedule.half_cycle_epochs = 50.0


def _no_decay(config: schema.Config) -> None:
    config.optimizer.weight_decay = 0.0


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_steps = 2
    config.attacks.pgd20.num_steps = 2
