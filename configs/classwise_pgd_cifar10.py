"""PGD adversarial training on CIFAR-10 that takes care of the vulnerable classes (paper P2).

Command: python -m rbjax.main --config=configs/classwise_pgd_cifar10.py
P2 leaves weights and rules open.  Here each class's weight follows its error under attack in the
epoch before, and the recipe is that of pgd_cifar10.py.  2 % of train is held out.
Variants: `:critical`, one class that matters most, the cat, of weight 2; `:similarity`, equal
weights and the regularizer that lowers the cosine similarity between classes' mean logits;
`:small`, the simple CNN at 4/255 on 5,000 images, minutes on two CPU cores; `:smoke`, about a
minute there.
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
    config.method.name = "classwise_pgd"
    config.method.epsilon = 8 / 255
    config.method.step_size = 2 / 255
    config.method.num_steps = 10
    config.method.reweighting = 1.0
    config.optimizer.name = "sgd"
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (75, 90)
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.pgd20 = schema.attack("pgd", step_size=2 / 255, num_steps=20)
    config.score.max_steps = 0
    return schema.vary(
        config, variant, critical=_critical, similarity=_similarity, small=_small, smoke=_smoke
    )


def _critical(config: schema.Config) -> None:
    config.method.reweighting = 0.0
    config.method.critical_class = 3  # the cat
    config.method.critical_weight = 2.0


def _similarity(config: schema.Config) -> None:
    config.method.reweighting = 0.0
    config.method.similarity_weight = 1.0


def _small(config: schema.Config) -> None:
    config.num_epochs = 20
    config.dataset.max_train_examples = 5000
    config.dataset.max_test_examples = 2000
    config.model.name = "simple_cnn"
    config.method.epsilon = 4 / 255
    config.method.step_size = 1 / 255
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
    config.attacks.pgd20.num_steps = 2
