"""Prints a dataset's card, and has it prepared: `python -m rbjax.data cifar10 --prepare`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rbjax.data.card import card, one_line
from rbjax.data.datasets import DATASETS, info
from rbjax.data.loading import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is known of a dataset.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value or a dataset that cannot be prepared.
    """
    given = _parser().parse_args(arguments)
    try:
        if given.name is None:
            print("\n".join(one_line(dataset_info) for dataset_info in DATASETS.values()))
            return 0
        dataset_info = info(given.name)
        if given.source is not None and not given.prepare:
            raise ValueError(f"from = {given.source!r}: only with --prepare")
        if given.prepare:
            for split in [s for s in ("train", "test") if s in dataset_info.num_examples]:
                load(given.name, split, data_dir=given.data_dir, source=given.source)
        print(card(dataset_info, given.data_dir))
    except (ValueError, OSError) as error:  # OSError: a full disk, for example
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rbjax.data", description="A dataset's card.")
    parser.add_argument(
        "name", nargs="?", help=f"{', '.join(DATASETS)}; with a config: cifar10_corrupted/fog_3"
    )
    parser.add_argument("--data_dir", help="where TFDS keeps its datasets")
    parser.add_argument(
        "--prepare", action="store_true", help="download and prepare it where that was not done yet"
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="URL_OR_PATH",
        help="with --prepare: take its files from a mirror, a folder or a file, not from their "
        "hosts; a URL that ends in a slash and a folder hold them by name",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
