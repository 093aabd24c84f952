"""The fields of an evaluation under common corruptions."""

from __future__ import annotations

from rbjax.config.field import Field

CORRUPTIONS: dict[str, Field] = {
    "name": Field(
        str,
        "none",
        "corruptions of the test set, joined by +, or none | common | extra | all | mnist_c",
        several=True,
    ),
    "profile": Field(
        str,
        None,
        "whose constants: by the size of the images",
        choices=("cifar", "tiny_imagenet", "imagenet", "mnist"),
        optional=True,
    ),
    "severities": Field(tuple, None, "of 1 to 5; those that are published", optional=True),
    "source": Field(
        str,
        "online",
        "corrupt the test set on the fly, or read TFDS's <dataset>_corrupted",
        choices=("online", "archive"),
    ),
    "baseline": Field(
        str,
        None,
        "whose errors an mCE is divided by: alexnet (of ImageNet-C), or a run directory that was "
        "evaluated under the same corruptions; plain mean errors",
        optional=True,
    ),
}
