"""DAFA on CIFAR-10 (Lee et al. 2024), with ResNet-18: similar classes trade weights and radii.

Command: python -m rbjax.main --config=configs/dafa_cifar10.py
The authors' recipe: TRADES with beta 6, weights from epoch 70 on of scale 1, SGD with momentum 0.9
and weight decay 5e-4, batches of 128, rate 0.1 divided by 10 at epochs 99 and 104 of 110,
pad-and-crop by 4 and horizontal flips.  They train at epsilon 0.031 with steps of 0.007; here it is
8/255 and 2/255.  2 % of train is held out.
Variants: `:small`, the simple CNN at 4/255 on 5,000 images, minutes on two CPU cores; `:smoke`,
about a minute there.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 110
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "dafa"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.method.beta = 6.0
    config.method.scale = 1.0
    config.method.warmup_epochs = 70
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (99, 104)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(config, variant, small=_small, smoke=_smoke)


def _small(config: schema.Config) -> None:
    config.num_epochs = 20
    config.dataset.max_train_examples = 5000
    config.dataset.max_test_examples = 2000
    config.model.name = "simple_cnn"
    config.method.epsilon = 4 / 255
    config.method.step_size = 1 / 255
    config.method.warmup_epochs = 12
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
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.method.num_steps = 2
    config.schedule.learning_rate = 0.01
    config.method.warmup_epochs = 1
    config.attacks.pgd20.num_steps = 2
