"""The config's own fields of what is measured: attacks, corruptions, RPR."""

from __future__ import annotations

from rbjax.config.catalog import Entry
from rbjax.config.field import Field
from rbjax.options import MOST


def _is_compiled(attack: Entry) -> bool:
    """Whether an attack works on one batch; one from outside is taken to."""
    return attack.makes in ("CompiledAttack", "")


ATTACK: dict[str, Field] = {
    "name": Field(str, None, "the attack"),
    "craft_on": Field(
        str,
        "balanced",
        "images to craft on: as many of train of each class as its smallest class has, all of "
        "train, or the validation split",
        choices=("balanced", "train", "validation"),
        where=lambda attack: "example_ids" in attack.takes,
    ),
    "max_examples": Field(
        int,
        None,
        "craft on at most so many of them; all",
        low=1,
        high=MOST,
        optional=True,
        where=lambda attack: "example_ids" in attack.takes,
    ),
    "source": Field(
        str,
        None,
        "another run directory, on whose model the images are crafted (P5's transfer)",
        optional=True,
        where=_is_compiled,
    ),
    "only_class": Field(
        int,
        None,
        "attack and count test images of this class alone (P5)",
        low=0,
        high=MOST,
        optional=True,
    ),
    "target_class": Field(
        int,
        None,
        "the class to be taken for; its own images do not count",
        low=0,
        high=MOST,
        optional=True,
        where=lambda attack: _is_compiled(attack) or "targets" in attack.takes,
    ),
}

CORRUPTIONS: dict[str, Field] = {
    "name": Field(
        str,
        "none",
        "corruptions of the test set, joined by +, or none, common, extra, all or mnist_c",
        several=True,
        words=("none", "common", "extra", "all", "mnist_c"),
    ),
    "profile": Field(
        str,
        None,
        "whose constants: by the size of the images",
        choices=("cifar", "tiny_imagenet", "imagenet", "mnist"),
        optional=True,
    ),
    "severities": Field(
        tuple, None, "of 1 to 5; those that are published", low=1, high=5, optional=True
    ),
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

SCORE: dict[str, Field] = {
    "perturbation": Field(
        str,
        "random_pixels",
        "the random perturbation; several joined by + are a chain, the first applied first",
        several=True,
    ),
    "max_steps": Field(int, 250, "draws a datapoint; 0 leaves the scoring out", low=0, high=MOST),
    "repetitions": Field(
        int, 1, "times each datapoint is scored, each time with draws of its own", low=1, high=10**6
    ),
    "max_width": Field(
        float,
        None,
        "do not score again whose failure probability is known this well (95 %, anytime-valid)",
        above=0.0,
        high=1.0,
        optional=True,
    ),
    "stop_window": Field(
        int,
        None,
        "look after every so many draws whether the survival curve is flat, and stop there",
        low=1,
        high=MOST,
        optional=True,
    ),
    "stop_tolerance": Field(
        float, 0.005, "largest fall of a flat curve over a window", low=0.0, high=1.0
    ),
    "dtype": Field(
        str,
        None,
        "what the model computes in while it is scored, as it was trained",
        choices=("float32", "bfloat16"),
        optional=True,
    ),
    "block_size": Field(
        int, None, "datapoints read at once; by the device", low=1, high=MOST, optional=True
    ),
    "split": Field(str, "test", "which split", choices=("train", "test")),
    "batch_size": Field(
        int,
        None,
        "datapoints drawn for at once, on each device; by their number",
        low=1,
        high=MOST,
        optional=True,
    ),
}
