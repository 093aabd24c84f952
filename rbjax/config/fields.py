"""The fields of a config that are not options of what it names, and what is named where.

Type, range, unit, meaning and default of an option of an attack, a model and so on stand at its
maker; what is here is the groups' own.  A field that is None is absent: its `default` is filled in
by `rbjax.config.resolve` where the field applies, and it stays absent where it does not.
"""

from __future__ import annotations

from rbjax.config.data_fields import DATASET, IMBALANCE, SAMPLER
from rbjax.config.evaluation_fields import ATTACK, CORRUPTIONS, SCORE
from rbjax.config.field import COMMANDS, Field, Group
from rbjax.options import MOST

CRITERIA = (
    *("accuracy", "worst_class", "average+worst", "loss"),
    *("robust_accuracy", "robust_worst_class", "robust_average+worst"),
)
"""What of the validation split can say which epoch is better, see `training.selection`."""

_TASKS = ("train", "evaluate", "score")
TOP: dict[str, Field] = {
    "task": Field(
        str, "train", "what to do", choices=_TASKS, affects="nothing", elsewhere=COMMANDS
    ),
    "seed": Field(int, 0, "every random number follows from it", low=0, high=2**31 - 1),
    "batch_size": Field(
        int,
        128,
        "examples a step, over all devices",
        low=1,
        high=MOST,
        affects=("weights", "evaluation"),
    ),
    "num_epochs": Field(int, 10, "passes over the training set", low=1, high=10**6),
    "workdir": Field(
        str, None, "the run directory; runs/<config name>", optional=True, affects="nothing"
    ),
    "distributed": Field(
        str,
        "auto",
        "which processes are one run: auto, as a launcher or JAX's own detection has it; off; "
        "or HOST:PORT,N,I: where process 0 is met, how many there are, which this is",
        affects="nothing",
    ),
    "program_cache": Field(
        str,
        "auto",
        "where compiled programs are kept for the next job: auto, a private folder in the user's "
        "cache directory (or JAX_COMPILATION_CACHE_DIR); off; or a folder",
        affects="nothing",
    ),
    "diagnostics": Field(
        int,
        256,
        "test images on which an evaluation looks for a false sense of robustness; 0: none",
        low=0,
        high=MOST,
        affects="evaluation",
    ),
    "data_dir": Field(
        str, None, "where TFDS keeps its datasets; TFDS's default", optional=True, affects="nothing"
    ),
}

MODEL: dict[str, Field] = {
    "name": Field(str, "simple_cnn", "the architecture"),
    "dtype": Field(
        str, "float32", "what it computes in; logits are float32", choices=("float32", "bfloat16")
    ),
    "batch_norm": Field(
        str,
        "synchronized",
        "over what training statistics are averaged",
        choices=("synchronized", "per_device"),
    ),
    "logit_adjustment": Field(
        float,
        0.0,
        "after training: tau of z - tau log(share of the class in training); 0: as trained",
        low=0.0,
        affects=("evaluation", "scoring"),
    ),
    "tau_norm": Field(
        float,
        None,
        "after training: divide each class's head weights by their length to this power, drop the "
        "biases; as trained",
        low=0.0,
        optional=True,
        affects=("evaluation", "scoring"),
    ),
    "normalize": Field(
        bool, True, "subtract the data's mean and divide by their deviation; off: it sees [0, 1]"
    ),
    "weights": Field(
        str,
        None,
        "a .pt, .pth or .safetensors file of weights that others trained with PyTorch, in place of "
        "training; for task = evaluate or score",
        optional=True,
        affects="nothing",
    ),
    "weights_digest": Field(
        str, None, "of that file; filled in, and checked where it is given", optional=True
    ),
}

METHOD: dict[str, Field] = {
    "name": Field(str, "standard", "the training method"),
}

LOSS: dict[str, Field] = {
    "name": Field(str, "cross_entropy", "the training loss"),
    "class_weights": Field(
        str,
        "none",
        "what multiplies each example's loss, by its class; of mean 1 over the training examples",
        choices=("none", "inverse_frequency", "effective_number"),
    ),
    "weights_beta": Field(
        float, 0.9999, "of effective_number; 0: all alike, 1: inverse_frequency", low=0.0, high=1.0
    ),
    "start_epoch": Field(
        int, 0, "class weights from this epoch on, of 0, 1, ...: deferred", low=0, high=MOST
    ),
}

SCHEDULE: dict[str, Field] = {
    "name": Field(str, "constant", "the learning rate's course"),
    "early_stop": Field(
        str,
        "none",
        "stop once this has not improved on the validation split for early_stop_patience epochs; "
        "num_epochs is the most then",
        choices=("none", *CRITERIA),
    ),
    "early_stop_patience": Field(
        int, 20, "epochs in a row without an improvement", low=1, high=10**6, unit="epochs"
    ),
    "early_stop_min_change": Field(
        float, 1e-4, "the least change that is an improvement", low=0.0, high=1e6
    ),
}

OPTIMIZER: dict[str, Field] = {
    "name": Field(str, "adam", "the optimizer"),
    "gradient_clip": Field(
        float, None, "largest global norm of the gradient", above=0.0, optional=True
    ),
    "ema_decay": Field(
        float,
        None,
        "keep an exponential moving average of the weights too",
        low=0.0,
        high=1.0,
        optional=True,
    ),
}

VALIDATION: dict[str, Field] = {
    "attack": Field(
        str,
        "pgd",
        "what the validation split is attacked with after each epoch",
        choices=("pgd", "none"),
    ),
    "norm": Field(
        str, None, "of the ball; the method's own, else linf", choices=("linf", "l2"), optional=True
    ),
    "epsilon": Field(
        float,
        None,
        "radius of the ball; the method's own, else the dataset's usual one",
        low=0.0,
        high=float(MOST),
        unit="pixels in [0, 1]",
        optional=True,
    ),
    "step_size": Field(
        float,
        None,
        "length of a step; 2.5 epsilon / num_steps",
        above=0.0,
        high=float(MOST),
        unit="pixels in [0, 1]",
        optional=True,
    ),
    "num_steps": Field(int, 10, "steps of the attack at most", low=1, high=MOST),
    "max_examples": Field(int, 1000, "images that are attacked at most", low=1, high=MOST),
    "max_share": Field(
        float,
        0.05,
        "of an epoch's passes, those that the attack may add: fewer images, then fewer steps",
        above=0.0,
        high=1000.0,
    ),
}

WRITERS: dict[str, Field] = {
    "name": Field(
        str,
        "tensorboard",
        "what the metrics of training are written to besides metrics.jsonl, joined by +, or none",
        several=True,
        words=("none",),
    ),
}

CHECKPOINT: dict[str, Field] = {
    "every_epochs": Field(int, 1, "save every so many epochs", low=1, high=MOST, affects="nothing"),
    "every_steps": Field(
        int,
        None,
        "save inside an epoch too, after so many steps; none: between epochs",
        low=1,
        high=MOST,
        optional=True,
        affects="nothing",
    ),
    "keep": Field(int, 2, "newest checkpoints kept", low=1, high=MOST, affects="nothing"),
    "best": Field(
        str,
        None,
        "by what of the validation split an epoch is the best; what early_stop says, else "
        "robust_accuracy for a method with an epsilon, else accuracy",
        choices=CRITERIA,
        optional=True,
    ),
    "weights": Field(
        str,
        "average",
        "which weights of a run with optimizer.ema_decay are judged and kept as the best",
        choices=("average", "plain"),
    ),
    "which": Field(
        str,
        None,
        "whose epoch's weights are evaluated and scored; best with early_stop, else last",
        choices=("best", "last"),
        optional=True,
        affects=("evaluation", "scoring"),
    ),
}

GROUPS: dict[str, Group] = {
    "dataset": Group(DATASET, "dataset"),
    "imbalance": Group(IMBALANCE, "imbalance profile"),
    "sampler": Group(SAMPLER, "sampler"),
    "model": Group(MODEL, "model"),
    "method": Group(METHOD, "method"),
    "loss": Group(LOSS, "loss"),
    "optimizer": Group(OPTIMIZER, "optimizer"),
    "schedule": Group(SCHEDULE, "schedule"),
    "corruptions": Group(CORRUPTIONS, "corruption", affects="evaluation"),
    "score": Group(SCORE, "perturbation", "perturbation", affects="scoring"),
    "validation": Group(VALIDATION),
    "checkpoint": Group(CHECKPOINT),
    "writers": Group(WRITERS, "writer", affects="nothing"),
}

ATTACKS = Group(
    ATTACK,
    "attack",
    affects="evaluation",
    left_out={
        "epsilon": "left out: the method's own, else 8/255 in linf",
        "norm": "the method's own",
    },
)
"""`attacks` is a group of groups: a label of one's own, and then the fields of an attack."""
