"""Every field of a config: its type, range, unit and meaning.

A field that is None is absent: its `default` is filled in by `rbjax.config.resolve` where the
field applies (`only` lists the names it belongs to), and it stays absent where it does not.
"""

from __future__ import annotations

from rbjax.config.attacks import EPSILON
from rbjax.config.corruptions import CORRUPTIONS
from rbjax.config.field import Field
from rbjax.config.score import SCORE

_ADVERSARIAL = ("pgd", "universal", "trades")
_OWN_DATA = ("folder", "npz")
_CYCLICAL = ("triangular", "triangular2", "exp_range")

TOP: dict[str, Field] = {
    "task": Field(str, "train", "what to do", choices=("train", "evaluate", "score")),
    "seed": Field(int, 0, "every random number follows from it", low=0, high=2**31 - 1),
    "batch_size": Field(int, 128, "examples a step, over all devices", low=1),
    "num_epochs": Field(int, 10, "passes over the training set", low=1),
    "workdir": Field(str, None, "the run directory; runs/<config name>", optional=True),
    "diagnostics": Field(
        int,
        256,
        "test images on which an evaluation looks for a false sense of robustness; 0: none",
        low=0,
    ),
    "data_dir": Field(str, None, "where TFDS keeps its datasets; TFDS's default", optional=True),
}

DATASET: dict[str, Field] = {
    "name": Field(str, "digits", "the dataset; folder or npz: one's own, at dataset.path"),
    "path": Field(
        str,
        None,
        "a folder train/<class>/<image> and test/<class>/<image>, or <class>/<image>; an .npz file "
        "with train_images, train_labels, test_images, test_labels and perhaps class_names",
        only=_OWN_DATA,
    ),
    "image_size": Field(
        tuple,
        None,
        "height and width that images are scaled and cut to; all have one size",
        unit="pixels",
        only=("folder",),
        optional=True,
    ),
    "channels": Field(
        int,
        None,
        "1 or 3 to turn images into; as the first",
        low=1,
        only=("folder",),
        optional=True,
    ),
    "bands": Field(
        str,
        None,
        "of droughtwatch's B1 to B11, those to keep, such as B4,B3,B2; all",
        optional=True,
    ),
    "test_fraction": Field(
        float,
        0.2,
        "share of each class that is test where the folder has no splits",
        above=0.0,
        high=0.9,
        only=("folder",),
    ),
    "fingerprint": Field(
        str,
        None,
        "of one's own data; filled in, and checked where it is given",
        only=_OWN_DATA,
        optional=True,
    ),
    "validation_fraction": Field(
        float, 0.0, "share of train held out, stratified by class", low=0.0, high=0.9
    ),
    "flip_horizontal": Field(bool, False, "mirror each image left to right half of the time"),
    "flip_vertical": Field(bool, False, "mirror each image top to bottom half of the time"),
    "rotation_degrees": Field(
        float, 0.0, "largest rotation either way", low=0.0, high=180.0, unit="degrees"
    ),
    "crop_padding": Field(
        int, 0, "pixels of the fill padded before a random crop", low=0, unit="pixels"
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
        float, 0.0, "brightness times up to 1 + or - so much; 0: as it is", low=0.0
    ),
    "jitter_contrast": Field(float, 0.0, "contrast likewise", low=0.0),
    "jitter_saturation": Field(float, 0.0, "saturation likewise", low=0.0),
    "jitter_hue": Field(
        float, 0.0, "largest shift of the hue either way", low=0.0, high=0.5, unit="turns"
    ),
    "cutout_size": Field(
        int, 0, "side of a square of the fill, anywhere on the image; 0: none", low=0, unit="pixels"
    ),
    "fill": Field(
        str,
        "black",
        "what crop, rotation and Cutout leave empty; mean: what the model's normalisation makes 0",
        choices=("black", "mean"),
    ),
    "mixup_alpha": Field(
        float, 0.0, "Mixup's shares are of Beta(alpha, alpha); 0: no Mixup", low=0.0
    ),
    "streaming": Field(
        str,
        "auto",
        "read the training set ahead as it is used; auto: where it exceeds memory_budget",
        choices=("auto", "always", "never"),
    ),
    "memory_budget": Field(
        int,
        None,
        "what training images may take; a quarter of an accelerator's memory, 2048 on CPU",
        low=1,
        unit="MiB",
        optional=True,
    ),
    "subset": Field(
        str,
        None,
        "an .npz file; train only on its example_ids, of what imbalance leaves",
        optional=True,
    ),
    "subset_digest": Field(
        str, None, "of the subset's ids; filled in, and checked where it is given", optional=True
    ),
    "max_train_examples": Field(int, None, "keep only so many of train", low=1, optional=True),
    "test_on": Field(
        str,
        None,
        "another test set of the same classes, NAME or NAME:SPLIT, such as cifar10_1/v6",
        optional=True,
    ),
    "max_test_examples": Field(int, None, "keep only so many of test", low=1, optional=True),
}

IMBALANCE: dict[str, Field] = {
    "name": Field(str, "balanced", "the profile of the training set's class counts"),
    "imbalance_ratio": Field(
        float,
        None,
        "largest class count over the smallest",
        low=1.0,
        only=("exponential", "linear", "step"),
        optional=True,
    ),
    "decay": Field(
        float,
        None,
        "lambda of P1, n_i = n_max * lambda**i, in place of the ratio",
        above=0.0,
        high=1.0,
        only=("exponential",),
        optional=True,
    ),
    "num_max": Field(
        int,
        None,
        "count of the largest class; what there is of the scarcest, in power the most there can be",
        low=1,
        only=("balanced", "exponential", "linear", "step", "power"),
        optional=True,
    ),
    "power": Field(
        float,
        1.0,
        "of the natural imbalance: 0 makes classes equal, 1/2 halves it on a logarithmic scale",
        low=0.0,
        high=10.0,
        only=("power",),
    ),
    "minority_fraction": Field(
        float, 0.5, "share of the classes that are small", low=0.0, high=1.0, only=("step",)
    ),
    "target_class": Field(int, 0, "the class that differs", low=0, only=("target",)),
    "target_count": Field(
        int, None, "examples of that class; all", low=1, only=("target",), optional=True
    ),
    "other_count": Field(
        int, None, "examples of each other class; all", low=1, only=("target",), optional=True
    ),
    "seed": Field(int, 0, "which examples stay", low=0, high=2**31 - 1),
    "apply_to_test": Field(bool, False, "whether validation and test follow the profile too"),
}

_BY_CLASS = ("class_aware", "square_root", "effective_number")

SAMPLER: dict[str, Field] = {
    "name": Field(str, "uniform", "how often training takes each class"),
    "start_epoch": Field(
        int, 0, "uniform before this epoch, counted from 0: deferred", low=0, only=_BY_CLASS
    ),
    "beta": Field(
        float,
        0.9999,
        "of the effective number of samples (Cui et al. 2019)",
        low=0.0,
        high=1.0,
        only=("effective_number",),
    ),
}

MODEL: dict[str, Field] = {
    "name": Field(str, "simple_cnn", "the architecture"),
    "dtype": Field(
        str, "float32", "what it computes in; logits are float32", choices=("float32", "bfloat16")
    ),
    "widths": Field(
        tuple,
        None,
        "channels of the two convolutions, (32, 64); units of each hidden layer, (256, 256)",
        only=("simple_cnn", "mlp"),
        optional=True,
    ),
    "activation": Field(
        str,
        "author",
        "ReLU after the last convolution of a block, or after each",
        choices=("author", "paper"),
        only=("vgg_p5",),
    ),
    "batch_norm": Field(
        str,
        "synchronized",
        "over what training statistics are averaged",
        choices=("synchronized", "per_device"),
    ),
}

METHOD: dict[str, Field] = {
    "name": Field(str, "standard", "the training method"),
    "epsilon": Field(
        float, 8 / 255, EPSILON, above=0.0, unit="pixels in [0, 1]", only=_ADVERSARIAL
    ),
    "norm": Field(str, "linf", "the ball's norm", choices=("linf", "l2"), only=_ADVERSARIAL),
    "step_size": Field(
        float,
        None,
        "length of one step; a quarter of epsilon for pgd and trades, epsilon for universal",
        above=0.0,
        unit="pixels in [0, 1]",
        only=_ADVERSARIAL,
        optional=True,
    ),
    "num_steps": Field(int, 10, "steps of the attack", low=1, only=("pgd", "trades")),
    "random_start": Field(bool, True, "start at a random point of the ball", only=("pgd",)),
    "attack_batch_norm": Field(
        str,
        "eval",
        "batch norm while crafting: running statistics, or the batch's own",
        choices=("eval", "train"),
        only=("pgd", "trades"),
    ),
    "beta": Field(
        float, 6.0, "weight of the divergence from the clean image", low=0.0, only=("trades",)
    ),
    "form": Field(
        str,
        "simultaneous",
        "both gradients from one pass, or the perturbation's after the weights' step",
        choices=("simultaneous", "alternating"),
        only=("universal",),
    ),
    "loss_clip": Field(
        float,
        None,
        "the perturbation climbs min(loss, loss_clip); the plain loss",
        above=0.0,
        only=("universal",),
        optional=True,
    ),
}

LOSS: dict[str, Field] = {
    "name": Field(str, "cross_entropy", "the training loss"),
    "label_smoothing": Field(
        float, 0.0, "mass given to all classes alike", low=0.0, high=1.0, only=("cross_entropy",)
    ),
    "beta": Field(
        float,
        0.9999,
        "of the effective number of samples (Cui et al. 2019)",
        low=0.0,
        high=1.0,
        only=("class_balanced",),
    ),
}

OPTIMIZER: dict[str, Field] = {
    "name": Field(str, "adam", "the optimizer"),
    "momentum": Field(float, 0.9, "of the velocity", low=0.0, high=1.0, only=("sgd",)),
    "nesterov": Field(bool, False, "Nesterov's form", only=("sgd",)),
    "decay": Field(
        float, 0.0, "rate / (1 + decay * t), as Keras 2.0 has it", low=0.0, only=("rmsprop",)
    ),
    "weight_decay": Field(
        float, 0.0, "of kernels; decoupled in adamw, else added to the gradient", low=0.0
    ),
    "gradient_clip": Field(
        float, None, "largest global norm of the gradient", above=0.0, optional=True
    ),
    "ema_decay": Field(
        float,
        None,
        "evaluate an exponential moving average of the weights",
        low=0.0,
        high=1.0,
        optional=True,
    ),
}

SCHEDULE: dict[str, Field] = {
    "name": Field(str, "constant", "the learning rate's course"),
    "learning_rate": Field(float, 1e-3, "the rate; a cycle's lowest", above=0.0),
    "warmup_epochs": Field(float, 0.0, "linear rise from 0", low=0.0, only=("cosine",)),
    "final_learning_rate": Field(float, 0.0, "the rate at the end", low=0.0, only=("cosine",)),
    "gamma": Field(
        float,
        None,
        "factor of each step (0.1), or of each update in exp_range (0.99994)",
        above=0.0,
        high=1.0,
        only=("step", "exp_range"),
        optional=True,
    ),
    "epochs_per_step": Field(
        float, None, "a step every so many epochs", above=0.0, only=("step",), optional=True
    ),
    "milestones": Field(
        tuple,
        None,
        "epochs at which a step is taken, such as (75, 90)",
        only=("step",),
        optional=True,
    ),
    "max_learning_rate": Field(
        float,
        None,
        "a cycle's highest rate; 6 times the lowest",
        above=0.0,
        only=_CYCLICAL,
        optional=True,
    ),
    "half_cycle_epochs": Field(float, 2.0, "from lowest to highest", above=0.0, only=_CYCLICAL),
}

CHECKPOINT: dict[str, Field] = {
    "every_epochs": Field(int, 1, "save every so many epochs", low=1),
    "keep": Field(int, 2, "newest checkpoints kept", low=1),
}

GROUPS: dict[str, dict[str, Field]] = {
    "dataset": DATASET,
    "imbalance": IMBALANCE,
    "sampler": SAMPLER,
    "model": MODEL,
    "method": METHOD,
    "loss": LOSS,
    "optimizer": OPTIMIZER,
    "schedule": SCHEDULE,
    "corruptions": CORRUPTIONS,
    "score": SCORE,
    "checkpoint": CHECKPOINT,
}
"""`attacks` is a group of groups: a label of one's own, and then the fields of `attacks.py`."""

SELECTOR = {"score": "perturbation"}
"""The field that names what a group is about, where it is not `name`."""
