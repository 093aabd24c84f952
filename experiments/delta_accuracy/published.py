"""P3's six networks as its author published them: are their training accuracies the printed ones?

    python -m experiments.delta_accuracy.published --nets=FOLDER [--data_dir=FOLDER]

FOLDER is `nets` of https://github.com/mikkelfo/02456-Deep-Learning, which holds `mnist_cnn*.pt`.
Each file is read by `rbjax.models.from_torch`, without PyTorch, and the network classifies MNIST's
60,000 training images. Beside that stands what P3's notebook printed for the same file
(expected.json). The table is in results/published.md.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence

import numpy as np

from experiments.benchmarks import machine
from experiments.delta_accuracy import claims, plan, strength
from rbjax import console, data
from rbjax.training.predict import predict
from rbjax.typing import LogitsFn


def num_errors(logits_fn: LogitsFn, dataset: data.Dataset) -> int:
    """Returns how many images a network does not classify as they are labelled."""
    return int(np.sum(predict(logits_fn, dataset, batch_size=1000) != dataset.labels))


@console.steady()
def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, classifies and prints.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0; 1 if an accuracy is not the printed one; 2 for a wrong value.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", required=True, help="the folder of P3's mnist_cnn*.pt")
    parser.add_argument("--data_dir", help="where TFDS keeps MNIST")
    given = parser.parse_args(arguments)
    say = functools.partial(print, flush=True)
    try:
        networks = strength.published(given.nets)
        mnist = data.load("mnist", "train", data_dir=given.data_dir)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say("# P3's published networks on MNIST's training images\n")
    say(f"```\npython -m experiments.delta_accuracy.published\n{machine.describe()}\n```\n")
    say("| P3's name | file | model | printed, % | here, % | errors |\n|---|---|---|---|---|---|")
    num_equal = 0
    for version, (file, model) in strength.NETS.items():
        errors = num_errors(networks[version], mnist)
        here = f"{100 * (1 - errors / mnist.num_examples):.2f}"
        printed = f"{claims.published('accuracy', version):.2f}"
        say(f"| {plan.NAMES[version]} | {file} | `{model}` | {printed} | {here} | {errors} |")
        num_equal += here == printed
    say(f"\nEqual to the digit: {num_equal} of {len(strength.NETS)}.")
    return int(num_equal < len(strength.NETS))


if __name__ == "__main__":
    sys.exit(main())
