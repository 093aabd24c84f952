"""Free adversarial training of ResNet-18 on CIFAR-10 (Shafahi et al. 2019).

Command: python -m rbjax.main --config=configs/free_cifar10.py
8 descents on each batch, so that 10 epochs cost what 80 of standard training do.  The recipe of
Wong et al. 2020 for it: SGD with momentum 0.9 and weight decay 5e-4, batches of 128, a rate that
rises from 0 to 0.04 and falls again, pad-and-crop by 4 and horizontal flips.  They train a
PreActResNet-18, and their rate ends at 0, here at 1e-6.  2 % of train is held out.
Variant: `:smoke`, the simple CNN, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 10
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "free"
    config.method.epsilon = 8 / 255
    config.method.num_replays = 8
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-6
    config.schedule.max_learning_rate = 0.04
    config.schedule.half_cycle_epochs = 5.0
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_replays = 2
    config.attacks.pgd20.num_steps = 2
