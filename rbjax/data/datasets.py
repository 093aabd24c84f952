"""What each dataset is: shape, classes, sizes, normalisation, source and licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rbjax.data import class_names
from rbjax.data.class_names import CIFAR10, CIFAR100, DIGITS
from rbjax.data.description import DatasetInfo, File, Superclasses
from rbjax.tables import lookup

__all__ = ["DATASETS", "DatasetInfo", "File", "Superclasses", "info", "names", "with_bands"]

# CIFAR-10-C's, in the paper's order, as TFDS names them; ImageNet-C's differ in two names.
_CORRUPTIONS = """
    gaussian_noise shot_noise impulse_noise defocus_blur frosted_glass_blur motion_blur zoom_blur
    snow frost fog brightness contrast elastic pixelate jpeg_compression
    gaussian_blur saturate spatter speckle_noise
"""
_IMAGENET_NAMES = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}
_MNIST_CORRUPTIONS = """
    identity shot_noise impulse_noise glass_blur motion_blur shear scale rotate brightness translate
    stripe fog spatter dotted_line zigzag canny_edges
"""
_MNIST_COUNTS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
_ALIGNMNIST_SPLITS = ("train", *(f"block_{number}" for number in range(1, 76)))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_BY_HAND = (
    "register at https://image-net.org/download-images and place ILSVRC2012_img_train.tar and "
    "ILSVRC2012_img_val.tar in downloads/manual of the data folder"
)
_IMAGENET_FILES = tuple(
    File(f"ILSVRC2012_img_{split}.tar", "https://image-net.org/download-images", size, sha256)
    for split, size, sha256 in (
        (
            "train",
            147897477120,
            "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
        ),
        ("val", 6744924160, "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0"),
    )
)


def _severities(renamed: Mapping[str, str]) -> tuple[str, ...]:
    names = (renamed.get(name, name) for name in _CORRUPTIONS.split())
    return tuple(f"{name}_{severity}" for name in names for severity in range(1, 6))


def _each(num_classes: int, **splits: int) -> dict[str, tuple[int, ...]]:
    return {split: (count,) * num_classes for split, count in splits.items()}


_ALL = (
    DatasetInfo(
        name="digits",
        image_shape=(16, 16, 1),
        class_names=DIGITS,
        num_examples={"train": 1437, "test": 360},
        mean=(0.3059,),
        std=(0.3189,),
        source="scikit-learn's load_digits: the test part of UCI's Optical Recognition of "
        "Handwritten Digits (Alpaydin and Kaynak, 1998), 8x8 images enlarged to 16x16",
        licence="CC BY 4.0",
        embedded=True,
        class_counts={
            "train": (142, 146, 141, 147, 145, 146, 145, 143, 138, 144),
            "test": (36,) * 10,
        },
        epsilon=0.1,
    ),
    DatasetInfo(
        name="mnist",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        num_examples={"train": 60000, "test": 10000},
        mean=(0.1307,),
        std=(0.3081,),
        source="LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
        class_counts=_MNIST_COUNTS,
        epsilon=0.3,
    ),
    DatasetInfo(
        name="fashion_mnist",
        image_shape=(28, 28, 1),
        class_names=class_names.FASHION_MNIST,
        num_examples={"train": 60000, "test": 10000},
        mean=(0.2860,),  # mean and std: as published, not computed here
        std=(0.3530,),
        source="Xiao, Rasul and Vollgraf, 2017, https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        class_counts=_each(10, train=6000, test=1000),
        epsilon=0.1,
    ),
    DatasetInfo(
        name="cifar10",
        image_shape=(32, 32, 3),
        class_names=CIFAR10,
        num_examples={"train": 50000, "test": 10000},
        mean=(0.4914, 0.4822, 0.4465),
        # The field's figures: the mean of each image's own deviation.  Over all pixels it is
        # (0.2470, 0.2435, 0.2616).
        std=(0.2023, 0.1994, 0.2010),
        source="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; the authors ask to be cited",
        class_counts=_each(10, train=5000, test=1000),
    ),
    DatasetInfo(
        name="cifar100",
        image_shape=(32, 32, 3),
        class_names=CIFAR100,
        num_examples={"train": 50000, "test": 10000},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        source="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; the authors ask to be cited",
        class_counts=_each(100, train=500, test=100),
        superclasses=class_names.CIFAR100_SUPERCLASSES,
    ),
    DatasetInfo(
        name="cifar100_superclasses",
        image_shape=(32, 32, 3),
        class_names=class_names.CIFAR100_SUPERCLASSES.names,
        num_examples={"train": 50000, "test": 10000},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        source="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html; CIFAR-100's images "
        "with its 20 superclasses for classes",
        licence="none stated; the authors ask to be cited",
        builder="superclasses",
        class_counts=_each(20, train=2500, test=500),
        how_to_get="prepare cifar100, whose images they are",
    ),
    DatasetInfo(
        name="svhn_cropped",
        image_shape=(32, 32, 3),
        class_names=DIGITS,
        num_examples={"train": 73257, "test": 26032},
        mean=(0.4377, 0.4438, 0.4728),  # mean and std: as published, not computed here
        std=(0.1980, 0.2010, 0.1970),
        source="Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers/",
        licence="for non-commercial use only",
        class_counts={
            "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        },
    ),
    DatasetInfo(
        name="droughtwatch",
        image_shape=(65, 65, 11),
        class_names=("0 cows", "1 cow", "2 cows", "3 cows"),
        num_examples={"train": 86317, "test": 10778},
        # Mean and std: those of another project's code, not computed here.
        mean=(0.720, 0.675, 0.644, 0.654, 0.734, 0.718, 0.679, 0.640, 0.249, 0.969, 0.971),
        std=(0.197, 0.195, 0.186, 0.192, 0.168, 0.172, 0.183, 0.187, 0.417, 0.108, 0.108),
        source="Hobbs and Svetlichnaya, 2020, arXiv:2004.04081, "
        "https://github.com/wandb/droughtwatch; how many cows the place at the centre of a "
        "Landsat 8 image feeds, about 60, 15, 15 and 10 % of the images; its validation set is "
        "our test",
        licence="not stated with the files; see the repository",
        builder="droughtwatch",
        storage="mapped",
        stored_splits={"test": "val"},
        channel_names=tuple(f"B{band}" for band in range(1, 12)),
        files=(
            File(
                "dw_train_86K_val_10K.zip",
                "https://storage.googleapis.com/wandb_datasets/dw_train_86K_val_10K.zip",
                about="about 2.15 GB",
            ),
        ),
    ),
    DatasetInfo(
        name="alignmnist",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        num_examples=dict.fromkeys(_ALIGNMNIST_SPLITS, 60000),
        mean=(0.1307,),  # of MNIST
        std=(0.3081,),
        source="Hauberg et al., 2016, arXiv:1510.02795, "
        "http://www2.compute.dtu.dk/~sohau/augmentations/; MNIST's training images, and 75 times "
        "the same deformed; there is no test set",
        licence="none stated; MNIST's is CC BY-SA 3.0",
        builder="alignmnist",
        storage="mapped",
        class_counts=dict.fromkeys(_ALIGNMNIST_SPLITS, _MNIST_COUNTS["train"]),
        files=(
            File(
                "alignmnist.npz",
                "http://www2.compute.dtu.dk/~sohau/augmentations/",
                about="about 4 GB",
            ),
        ),
        how_to_get="download alignmnist.npz, about 4 GB, from the page of its authors and place "
        "it in downloads/manual of the data folder; alignmnist_generated needs no file",
        epsilon=0.3,
    ),
    DatasetInfo(
        name="alignmnist_generated",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        num_examples=dict.fromkeys(_ALIGNMNIST_SPLITS, 60000),
        mean=(0.1307,),  # of MNIST
        std=(0.3081,),
        source="made here of MNIST's training images by the method of Hauberg et al., 2016, "
        "arXiv:1510.02795; how strong the published deformations are is not published",
        licence="MNIST's, CC BY-SA 3.0",
        builder="alignmnist",
        storage="mapped",
        class_counts=dict.fromkeys(_ALIGNMNIST_SPLITS, _MNIST_COUNTS["train"]),
        how_to_get="prepare mnist, of which it is made",
        epsilon=0.3,
    ),
    DatasetInfo(
        name="tiny_imagenet",
        image_shape=(64, 64, 3),
        class_names=class_names.TINY_IMAGENET,
        num_examples={"train": 100000, "test": 10000},
        mean=(0.4802, 0.4481, 0.3975),  # mean and std: as published, not computed here
        std=(0.2770, 0.2691, 0.2821),
        source="Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip; its "
        "validation set is our test, as its own test set has no labels",
        licence="ImageNet's: for non-commercial research and education only",
        class_counts=_each(200, train=500, test=50),
        builder="tiny_imagenet",
        storage="mapped",
        stored_splits={"test": "val"},
        files=(File("tiny-imagenet-200.zip", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),),
    ),
    DatasetInfo(
        name="imagenet2012",
        image_shape=(224, 224, 3),
        class_names=class_names.IMAGENET,
        num_examples={"train": 1281167, "test": 50000},
        mean=IMAGENET_MEAN,  # mean and std: as published, not computed here
        std=IMAGENET_STD,
        source="Russakovsky et al., 2015, arXiv:1409.0575, https://image-net.org; its validation "
        "set is our test; images are scaled to 256 pixels on the shorter side, their middle kept",
        licence="for non-commercial research and education only",
        storage="records",
        stored_splits={"test": "validation"},
        class_counts=_each(1000, test=50),
        files=_IMAGENET_FILES,
        how_to_get=_IMAGENET_BY_HAND,
        epsilon=4 / 255,
    ),
    DatasetInfo(
        name="imagenet_lt",
        image_shape=(224, 224, 3),
        class_names=class_names.IMAGENET,
        num_examples={"train": 115846, "validation": 20000, "test": 50000},
        mean=IMAGENET_MEAN,  # of ImageNet
        std=IMAGENET_STD,
        source="Liu et al., 2019, arXiv:1904.05160, "
        "https://github.com/zhmiao/OpenLongTailRecognition-OLTR; ImageNet with 1,280 to 5 "
        "training images of a class; ImageNet's validation set is its test",
        licence="ImageNet's: for non-commercial research and education only",
        storage="records",
        class_counts=_each(1000, validation=20, test=50),
        files=_IMAGENET_FILES,
        how_to_get=_IMAGENET_BY_HAND,
        epsilon=4 / 255,
    ),
    DatasetInfo(
        name="cifar10_corrupted",
        image_shape=(32, 32, 3),
        class_names=CIFAR10,
        num_examples={"test": 10000},
        mean=(0.4914, 0.4822, 0.4465),  # of CIFAR-10
        std=(0.2023, 0.1994, 0.2010),
        source="Hendrycks and Dietterich, 2019, arXiv:1903.12261, "
        "https://zenodo.org/record/2535967",
        licence="CC BY 4.0",
        configs=_severities({}),
        class_counts=_each(10, test=1000),
    ),
    DatasetInfo(
        name="mnist_corrupted",
        image_shape=(28, 28, 1),
        class_names=DIGITS,
        num_examples={"train": 60000, "test": 10000},
        mean=(0.1307,),  # of MNIST
        std=(0.3081,),
        source="Mu and Gilmer, 2019, arXiv:1906.02337, https://zenodo.org/record/3239543",
        licence="CC BY 4.0",
        configs=tuple(_MNIST_CORRUPTIONS.split()),
        class_counts=_MNIST_COUNTS,
        epsilon=0.3,
    ),
    DatasetInfo(
        name="imagenet2012_corrupted",
        image_shape=(224, 224, 3),
        class_names=class_names.IMAGENET,
        num_examples={"test": 50000},
        mean=IMAGENET_MEAN,  # of ImageNet
        std=IMAGENET_STD,
        source="Hendrycks and Dietterich, 2019, arXiv:1903.12261, "
        "https://github.com/hendrycks/robustness; TFDS makes it of ImageNet's validation set",
        licence="ImageNet's: for non-commercial research and education only",
        storage="records",
        configs=_severities(_IMAGENET_NAMES),
        stored_splits={"test": "validation"},
        class_counts=_each(1000, test=50),
        files=_IMAGENET_FILES,
        how_to_get=_IMAGENET_BY_HAND,
        epsilon=4 / 255,
    ),
    DatasetInfo(
        name="cifar10_1",
        image_shape=(32, 32, 3),
        class_names=CIFAR10,
        num_examples={"test": 2000},
        mean=(0.4914, 0.4822, 0.4465),  # of CIFAR-10
        std=(0.2023, 0.1994, 0.2010),
        source="Recht et al., 2018, arXiv:1806.00451, https://github.com/modestyachts/CIFAR-10.1; "
        "new test images for CIFAR-10: v4 has 2,021, v6 has 2,000",
        licence="MIT",
        configs=("v4", "v6"),
    ),
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _ALL}


def info(name: str) -> DatasetInfo:
    """Returns what is known of a dataset.

    Args:
        name: one of DATASETS, or `<name>/<config>` for one of its configs.

    Returns:
        Its DatasetInfo; nothing is read or downloaded.  That of a config has the name asked for,
        and no configs.

    Raises:
        ValueError: if there is no such dataset or config.
    """
    base, _, config = name.partition("/")
    info = lookup(DATASETS, base, what="dataset")
    if base == name:
        return info
    if not info.configs:
        raise ValueError(f"config of {base} {config!r} is unknown: it has no configs")
    lookup(dict.fromkeys(info.configs), config, what=f"config of {base}")
    info = info._replace(name=name, configs=())
    if name == "cifar10_1/v4":
        return info._replace(num_examples={"test": 2021})
    if base == "cifar10_1":
        return info._replace(class_counts=_each(10, test=200))
    return info


def names() -> tuple[str, ...]:
    """Returns every name that can be loaded, such as "mnist" and "cifar10_corrupted/fog_3"."""
    return tuple(
        name
        for info in _ALL
        for name in ([f"{info.name}/{c}" for c in info.configs] or [info.name])
    )


def with_bands(info: DatasetInfo, bands: Sequence[str]) -> DatasetInfo:
    """Returns the description of a dataset of which only some channels are kept.

    Args:
        info: of the whole dataset.
        bands: of its channel names, each at most once, in the order wanted; empty: all of them.

    Returns:
        Its DatasetInfo, with their shape and statistics.

    Raises:
        ValueError: if a band is unknown or named twice.
    """
    if not bands:
        return info
    if not info.channel_names:
        raise ValueError(f"dataset.bands = {list(bands)}: {info.name} has no bands to choose from")
    table = dict(zip(info.channel_names, range(len(info.channel_names)), strict=True))
    rows = [lookup(table, band, what=f"{info.name} band") for band in bands]
    if len(set(rows)) < len(rows):
        raise ValueError(f"dataset.bands = {list(bands)}: each band at most once")
    return info._replace(
        image_shape=(*info.image_shape[:2], len(rows)),
        channel_names=tuple(bands),
        mean=tuple(info.mean[row] for row in rows),
        std=tuple(info.std[row] for row in rows),
    )
