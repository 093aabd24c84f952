"""DeepAugment on CIFAR-10 (Hendrycks et al. 2021), with ResNet-18.

Command: python -m rbjax.main --config=configs/deepaugment_cifar10.py
EDSR and the compressive autoencoder are trained on the training images first, and each image passes
once through each, distorted: a training set of three times the size.  The authors fine-tune a
ResNet-50 on ImageNet; there is no published recipe for CIFAR-10, and here it is AugMix's: SGD with
Nesterov momentum 0.9 and weight decay 5e-4, batches of 128, rate 0.1 and half a cosine, 4 pixels of
pad-and-crop and horizontal flips, over 34 epochs of the threefold set, about as many steps as 100
of the plain one.  2 % of train is held out.
`configs/evaluate_corruptions.py` takes the run directory.
Variants: `:noise2net`, random networks inside the training step, and nothing made beforehand;
`:augmix`, DeepAugment and AugMix; `:smoke`, about a minute on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 34
    config.dataset.name = "cifar10"
    config.dataset.validation_fraction = 0.02
    config.dataset.flip_horizontal = True
    config.dataset.crop_padding = 4
    config.model.name = "resnet18"
    config.method.name = "deepaugment"
    config.method.source = "networks"
    config.optimizer.name = "sgd"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.1
    config.schedule.final_learning_rate = 1e-6
    config.attacks.fgsm = schema.attack("fgsm")
    config.score.max_steps = 0
    return schema.vary(config, variant, noise2net=_noise2net, augmix=_augmix, smoke=_smoke)


def _noise2net(config: schema.Config) -> None:
    config.method.source = "noise2net"
    config.num_epochs = 100


def _augmix(config: schema.Config) -> None:
    config.method.augmix = True


def _smoke(config: schema.Config) -> None:
    config.batch_size = 32
    config.num_epochs = 1
    config.dataset.max_train_examples = 128
    config.dataset.max_test_examples = 64
    config.model.name = "simple_cnn"
    config.schedule.learning_rate = 0.02
    config.method.source = "both"
    config.method.network_steps = 20
    config.method.edsr_blocks = 2
    config.method.edsr_width = 8
    config.method.cae_width = 8
    config.method.min_edsr_psnr = 5.0
    config.method.min_cae_psnr = 5.0
