"""The config's own fields of what is trained on: dataset, imbalance, sampler."""

from __future__ import annotations

from rbjax.config.field import Field
from rbjax.options import MOST

DATASET: dict[str, Field] = {
    "name": Field(
        str, "digits", "the dataset; folder, npz or huggingface: one's own, at dataset.path"
    ),
    "path": Field(
        str,
        None,
        "a folder train/<class>/<image> and test/<class>/<image>, or <class>/<image>, or one that "
        "dataset.metadata describes; an .npz file with train_images, train_labels, test_images, "
        "test_labels and perhaps class_names; Parquet of Hugging Face",
        affects="nothing",
        where=lambda dataset: "path" in dataset.takes,
    ),
    "bands": Field(
        str,
        None,
        "of droughtwatch's B1 to B11, those to keep, such as B4,B3,B2; all",
        optional=True,
    ),
    "fingerprint": Field(
        str,
        None,
        "of one's own data; filled in, and checked where it is given",
        where=lambda dataset: dataset.makes != "DatasetInfo",
        optional=True,
    ),
    "validation_fraction": Field(
        float, 0.0, "share of train held out, stratified by class", low=0.0, high=0.9
    ),
    "validation_from": Field(
        str,
        "classes",
        "what is held out: that share of each class; last: of the training examples as stored, "
        "after imbalance and subset; test: the test set, no share, as some papers' code selects",
        choices=("classes", "last", "test"),
    ),
    "flip_horizontal": Field(bool, False, "mirror each image left to right half of the time"),
    "flip_vertical": Field(bool, False, "mirror each image top to bottom half of the time"),
    "rotation_degrees": Field(
        float, 0.0, "largest rotation either way", low=0.0, high=180.0, unit="degrees"
    ),
    "crop_padding": Field(
        int, 0, "pixels of the fill padded before a random crop", low=0, high=4096, unit="pixels"
    ),
    "deformation": Field(
        float,
        0.0,
        "how far random smooth deformations move things; 0.05 is much",
        low=0.0,
        high=1.0,
        unit="widths of the image",
    ),
    "jitter_brightness": Field(
        float, 0.0, "brightness times up to 1 + or - so much; 0: as it is", low=0.0, high=1000.0
    ),
    "jitter_contrast": Field(float, 0.0, "contrast likewise", low=0.0, high=1000.0),
    "jitter_saturation": Field(float, 0.0, "saturation likewise", low=0.0, high=1000.0),
    "jitter_hue": Field(
        float, 0.0, "largest shift of the hue either way", low=0.0, high=0.5, unit="turns"
    ),
    "cutout_size": Field(
        int,
        0,
        "side of a square of the fill, anywhere on the image; 0: none",
        low=0,
        high=4096,
        unit="pixels",
    ),
    "fill": Field(
        str,
        "black",
        "what crop, rotation and Cutout leave empty; mean: what the model's normalisation makes 0",
        choices=("black", "mean"),
    ),
    "mixup_alpha": Field(
        float, 0.0, "Mixup's shares are of Beta(alpha, alpha); 0: no Mixup", low=0.0, high=1e6
    ),
    "streaming": Field(
        str,
        "auto",
        "read the training set ahead as it is used; auto: where it exceeds memory_budget",
        choices=("auto", "always", "never"),
        affects="nothing",
    ),
    "memory_budget": Field(
        int,
        None,
        "what training images may take; a quarter of an accelerator's memory, 2048 on CPU",
        low=1,
        high=MOST,
        unit="MiB",
        optional=True,
        affects="nothing",
    ),
    "subset": Field(
        str,
        None,
        "an .npz file; train only on its example_ids, of what imbalance leaves",
        optional=True,
        affects="nothing",
    ),
    "subset_digest": Field(
        str, None, "of the subset's ids; filled in, and checked where it is given", optional=True
    ),
    "max_train_examples": Field(
        int, None, "keep only so many of train", low=1, high=MOST, optional=True
    ),
    "test_on": Field(
        str,
        None,
        "another test set of the same classes, NAME or NAME:SPLIT, such as cifar10_1/v6; or "
        "folder:PATH, one's own images or a table of them, their classes found by name",
        optional=True,
        affects="evaluation",
    ),
    "max_test_examples": Field(
        int,
        None,
        "keep only so many of test",
        low=1,
        high=MOST,
        optional=True,
        affects="evaluation",
    ),
}

IMBALANCE: dict[str, Field] = {
    "name": Field(str, "balanced", "the profile of the training set's class counts"),
    "seed": Field(int, 0, "which examples stay", low=0, high=2**31 - 1),
    "apply_to_test": Field(bool, False, "whether validation and test follow the profile too"),
}

SAMPLER: dict[str, Field] = {
    "name": Field(str, "uniform", "how often training takes each class"),
    "start_epoch": Field(
        int,
        0,
        "uniform before this epoch, counted from 0: deferred",
        low=0,
        high=MOST,
        where=lambda sampler: sampler.name != "uniform",
    ),
}
