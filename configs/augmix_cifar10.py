"""AugMix on CIFAR-10 (Hendrycks et al. 2020), with ResNet-18.

Command: python -m rbjax.main --config=configs/augmix_cifar10.py
The authors' recipe: severity 3, three chains, weight 12, SGD with Nesterov momentum 0.9 and weight
decay 5e-4, batches of 128, rate 0.1 and half a cosine to 1e-6 over 100 epochs, pad-and-crop by 4
and horizontal flips.  They train, among others, a WRN-40-2.  2 % of train is held out.
`configs/evaluate_corruptions.py` takes the run directory.
Variant: `:smoke`, the simple CNN, about a minute on two CPU cores.
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
    config.method.name = "augmix"
    config.method.severity = 3.0
    config.method.divergence_weight = 12.0
    config.optimizer.name = "sgd"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.1
    config.schedule.final_learning_rate = 1e-6
    config.attacks.fgsm = schema.attack("fgsm")
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
