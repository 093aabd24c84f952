"""Prints a dataset's card, and prepares the dataset: `python -m rbjax.data cifar10 --prepare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rbjax import console, stops
from rbjax.data.card import card, one_line
from rbjax.data.datasets import DATASETS, info
from rbjax.data.loading import load


@console.steady()
def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m rbjax.data") -> int:
    """Prints what is known about a dataset.

    Args:
        arguments: the command line's; None: `sys.argv[1:]`.
        prog: what the command is called.

    Returns:
        The exit code (docs/stops.md): 0; 2 for a wrong value or a dataset that cannot be prepared;
        75 stopped, the same command goes on.
    """
    parser = argparse.ArgumentParser(prog=prog, description="A dataset's card.")
    parser.add_argument(
        "name", nargs="?", help=f"{', '.join(DATASETS)}; with a config: cifar10_corrupted/fog_3"
    )
    parser.add_argument("--data_dir", help="the folder in which TFDS keeps its datasets")
    parser.add_argument(
        "--prepare", action="store_true", help="download and prepare it, unless that is done"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="URL_OR_PATH",
        help="with --prepare: take its files from a mirror, a folder or a file instead of their "
        "hosts; a folder, and a URL that ends in a slash, hold them by name",
    )
    options = parser.parse_args(arguments)
    return stops.command(lambda: _show(options))


def _show(options: argparse.Namespace) -> None:
    """Prints what was asked for, once it is prepared.

    Raises:
        ValueError: for a wrong value, or a dataset that cannot be prepared.
    """
    if options.name is None:
        print("\n".join(one_line(dataset_info) for dataset_info in DATASETS.values()))
        return
    dataset_info = info(options.name)
    if options.source is not None and not options.prepare:
        raise ValueError(f"from = {options.source!r}: only with --prepare")
    if options.prepare:
        for split in [s for s in ("train", "test") if s in dataset_info.num_examples]:
            load(options.name, split, data_dir=options.data_dir, source=options.source)
    print(card(dataset_info, options.data_dir))


if __name__ == "__main__":
    stops.leave(main())
