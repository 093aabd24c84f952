r"""Evaluates an ImageNet network that others trained with PyTorch, class by class (P2).

Command: python -m rbjax.main --config=configs/evaluate_imagenet.py \
    --config.model.weights=resnet50-0676ba61.pth --config.dataset.path=ILSVRC2012_img_val \
    --workdir=runs/resnet50
The images lie in folders n01440764/..., or flat as ILSVRC2012_val_00000001.JPEG, labelled by the
development kit ILSVRC2012_devkit_t12 beside the folder (or --config.dataset.devkit=) or, where it
is not there, by TFDS's list.  The weights are torchvision's or MadryLab's (imagenet_linf_4.pt);
--config.model.name says of which network.
PGD takes most of the time: --config.dataset.max_test_examples=5000 takes a random part.
Variants: `:inception`, Inception-v3 at 299 pixels as torchvision trained it; `:smoke`, 8 images,
2 steps, one corruption.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.task = "evaluate"
    config.dataset.name = "imagenet_folder"
    config.dataset.path = "ILSVRC2012_img_val"
    config.model.name = "resnet50"
    config.model.form = "imagenet"
    config.batch_size = 32
    config.diagnostics = 64
    config.attacks.fgsm = schema.attack("fgsm", epsilon=4 / 255)
    config.attacks.pgd = schema.attack("pgd", epsilon=4 / 255, num_steps=20)
    config.corruptions.name = "common"
    config.corruptions.profile = "imagenet"
    return schema.vary(config, variant, inception=_inception, smoke=_smoke)


def _inception(config: schema.Config) -> None:
    config.dataset.image_size = (299, 299)
    config.dataset.mean = (0.5, 0.5, 0.5)
    config.dataset.std = (0.5, 0.5, 0.5)
    config.model.name = "inception_v3"


def _smoke(config: schema.Config) -> None:
    config.dataset.max_test_examples = 8
    config.batch_size = 8
    config.diagnostics = 0
    config.attacks.pgd.num_steps = 2
    config.corruptions.name = "brightness"
    config.corruptions.severities = (3,)
