"""Prints a dataset's card: `python -m rbjax.data cifar10`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rbjax.data import storage
from rbjax.data.datasets import DATASETS, DatasetInfo, info
from rbjax.data.loading import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what is known of a dataset.

    Args:
        arguments: of the command line; `sys.argv[1:]`.

    Returns:
        The exit code: 0, or 2 for a wrong value or a dataset that cannot be prepared.
    """
    parser = argparse.ArgumentParser(prog="python -m rbjax.data", description="A dataset's card.")
    parser.add_argument("name", nargs="?", help=", ".join(DATASETS))
    parser.add_argument("--data_dir", help="where TFDS keeps its datasets")
    parser.add_argument(
        "--prepare", action="store_true", help="download and prepare it where that was not done yet"
    )
    given = parser.parse_args(arguments)
    try:
        if given.name is None:
            print("\n".join(_one_line(dataset_info) for dataset_info in DATASETS.values()))
        else:
            dataset_info = info(given.name)
            if given.prepare:
                load(given.name, "train", data_dir=given.data_dir)
            print(card(dataset_info, given.data_dir))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def card(dataset_info: DatasetInfo, data_dir: str | Path | None = None) -> str:
    """Returns what is known of a dataset, with its class counts if it is on this machine.

    Args:
        dataset_info: of the dataset.
        data_dir: where TFDS keeps its datasets; `storage.default_data_dir()`.

    Returns:
        Lines of text.
    """
    name = dataset_info.name
    folder = None if dataset_info.embedded else storage.find(name, data_dir)
    lines = [
        _one_line(dataset_info),
        f"mean     {_numbers(dataset_info.mean)}   (train, pixels in [0, 1])",
        f"std      {_numbers(dataset_info.std)}",
        f"source   {dataset_info.source}",
        f"licence  {dataset_info.licence}",
    ]
    if folder is None and not dataset_info.embedded:
        lines += [
            f"stored   not in {data_dir or storage.default_data_dir()}; with a network, "
            f"`python -m rbjax.data {name} --prepare` has TFDS download and prepare it",
            f"classes  {', '.join(dataset_info.class_names)}",
        ]
    else:
        lines.append(f"stored   {folder or 'in scikit-learn'}")
        lines += _class_table(dataset_info, data_dir)
    return "\n".join(lines)


def _one_line(dataset_info: DatasetInfo) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in dataset_info.num_examples.items())
    shape = " x ".join(map(str, dataset_info.image_shape))
    return f"{dataset_info.name}: {dataset_info.num_classes} classes, {shape}, {sizes}"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _class_table(dataset_info: DatasetInfo, data_dir: str | Path | None) -> list[str]:
    """One line a class; one line for all where they are of one size."""
    splits = list(dataset_info.num_examples)
    counts = [load(dataset_info.name, split, data_dir=data_dir).class_counts for split in splits]
    if all(len(set(column.tolist())) == 1 for column in counts):
        each = ", ".join(f"{c[0]:,} {split}" for c, split in zip(counts, splits, strict=True))
        names = ", ".join(dataset_info.class_names)
        return [f"classes  {each} each: {names}"]
    width = max(len("class"), *map(len, dataset_info.class_names))
    lines = [f"{'':>3}  {'class':<{width}}" + "".join(f"{split:>8}" for split in splits)]
    for label, class_name in enumerate(dataset_info.class_names):
        row = "".join(f"{column[label]:>8,}" for column in counts)
        lines.append(f"{label:>3}  {class_name:<{width}}{row}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
