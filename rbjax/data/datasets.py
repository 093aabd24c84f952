"""What each dataset is: shape, classes, sizes, normalisation, source and licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from rbjax.tables import lookup

_DIGITS = tuple("0123456789")
_FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


class DatasetInfo(NamedTuple):
    """What is known of a dataset before it is on the machine."""

    name: str
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    class_names: tuple[str, ...]
    num_examples: Mapping[str, int]
    """The size of each split."""
    mean: tuple[float, ...]
    """Of each channel over train, pixels in [0, 1]; a model subtracts it."""
    std: tuple[float, ...]
    """What a model divides each channel by."""
    source: str
    licence: str
    embedded: bool = False
    """Whether it comes with scikit-learn; the others come from TFDS, under the same name."""

    @property
    def num_classes(self) -> int:
        """The number of classes, K."""
        return len(self.class_names)


_ALL = (
    DatasetInfo(
        name="digits",
        image_shape=(16, 16, 1),
        class_names=_DIGITS,
        num_examples={"train": 1437, "test": 360},
        mean=(0.3059,),
        std=(0.3189,),
        source="scikit-learn's load_digits: the test part of UCI's Optical Recognition of "
        "Handwritten Digits (Alpaydin and Kaynak, 1998), 8x8 images enlarged to 16x16",
        licence="CC BY 4.0",
        embedded=True,
    ),
    DatasetInfo(
        name="mnist",
        image_shape=(28, 28, 1),
        class_names=_DIGITS,
        num_examples={"train": 60000, "test": 10000},
        mean=(0.1307,),
        std=(0.3081,),
        source="LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
    ),
    DatasetInfo(
        name="fashion_mnist",
        image_shape=(28, 28, 1),
        class_names=_FASHION_MNIST,
        num_examples={"train": 60000, "test": 10000},
        mean=(0.2860,),  # mean and std: as published, not computed here
        std=(0.3530,),
        source="Xiao, Rasul and Vollgraf, 2017, https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
    ),
    DatasetInfo(
        name="cifar10",
        image_shape=(32, 32, 3),
        class_names=tuple(_CIFAR10.split()),
        num_examples={"train": 50000, "test": 10000},
        mean=(0.4914, 0.4822, 0.4465),
        # The field's figures: the mean of each image's own deviation.  Over all pixels it is
        # (0.2470, 0.2435, 0.2616).
        std=(0.2023, 0.1994, 0.2010),
        source="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; the authors ask to be cited",
    ),
    DatasetInfo(
        name="cifar100",
        image_shape=(32, 32, 3),
        class_names=tuple(_CIFAR100.split()),
        num_examples={"train": 50000, "test": 10000},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        source="Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; the authors ask to be cited",
    ),
    DatasetInfo(
        name="svhn_cropped",
        image_shape=(32, 32, 3),
        class_names=_DIGITS,
        num_examples={"train": 73257, "test": 26032},
        mean=(0.4377, 0.4438, 0.4728),  # mean and std: as published, not computed here
        std=(0.1980, 0.2010, 0.1970),
        source="Netzer et al., 2011, http://ufldl.stanford.edu/housenumbers/",
        licence="for non-commercial use only",
    ),
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _ALL}


def info(name: str) -> DatasetInfo:
    """Returns what is known of a dataset.

    Args:
        name: one of DATASETS.

    Returns:
        Its DatasetInfo; nothing is read or downloaded.

    Raises:
        ValueError: if there is no such dataset.
    """
    return lookup(DATASETS, name, what="dataset")
