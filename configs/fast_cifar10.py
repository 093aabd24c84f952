"""Fast adversarial training of ResNet-18 on CIFAR-10: FGSM-RS (Wong et al. 2020) and N-FGSM.

Command: python -m rbjax.main --config=configs/fast_cifar10.py
The authors' recipe: one step of 10/255 from a uniform start, batch norm of the batch while
crafting, SGD with momentum 0.9 and weight decay 5e-4, batches of 128, 15 epochs in which the rate
rises from 0 to 0.2 and falls again, pad-and-crop by 4 and horizontal flips.  They train a
PreActResNet-18, and their rate ends at 0, here at 1e-6.  2 % of train is held out, for the guard
too.
Variants: `:n_fgsm` (de Jorge et al. 2022), 30 epochs, noise of 16/255, a step of 8/255 and no
projection; `:smoke`, the simple CNN, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 15
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "fast"
    config.method.epsilon = 8 / 255
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "triangular"
    config.schedule.learning_rate = 1e-6
    config.schedule.max_learning_rate = 0.2
    config.schedule.half_cycle_epochs = 7.5
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke, n_fgsm=_n_fgsm)


def _n_fgsm(config: schema.Config) -> None:
    config.num_epochs = 30
    config.method.form = "n_fgsm"
    config.schedule.half_cycle_epochs = 15.0


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.validation_fraction = 0.002
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.attacks.pgd20.num_steps = 2
