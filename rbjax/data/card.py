"""A dataset's card: its description, what of it is on this machine, and how to get the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rbjax.data import builders, storage
from rbjax.data.description import DatasetInfo
from rbjax.data.loading import load
from rbjax.data.prepare import published_files

_WIDTH = 100
_LABEL = 9
_MOST_ROWS = 30
"""Classes that are listed one per line."""
_MOST_NAMES = 100
_HELD = {
    "memory": "decoded, in memory",
    "mapped": "decoded once to a memory-mapped file",
    "records": "as stored, decoded during use",
}


def card(dataset_info: DatasetInfo, data_dir: str | Path | None = None) -> str:
    """Returns the description of a dataset, with its class counts if it is on this machine.

    Args:
        dataset_info: of the dataset.
        data_dir: the folder of TFDS's datasets; None: `storage.default_data_dir()`.

    Returns:
        Lines of text.
    """
    lines = [
        one_line(dataset_info),
        *_entry("mean", f"{_numbers(dataset_info.mean)}   (train, pixels in [0, 1])"),
        *_entry("std", _numbers(dataset_info.std)),
        *_entry("epsilon", f"{dataset_info.epsilon:.3g}   (usual in l-inf)"),
        *_entry("source", dataset_info.source),
        *_entry("licence", dataset_info.licence),
        *_entry("held", _HELD[dataset_info.storage]),
    ]
    if dataset_info.channel_names:
        lines += _entry("bands", " ".join(dataset_info.channel_names))
    configs = dataset_info.configs
    if configs:  # those of five severities are listed once each
        stems = [config[:-2] for config in configs if config.endswith("_1")]
        choices = f"one of: {' '.join(configs)}"
        if len(configs) == 5 * len(stems):
            choices = f"one of these, each with _1 to _5: {' '.join(stems)}"
        lines += _entry("configs", f"{dataset_info.name}/ and {choices}")
    here = found(dataset_info, data_dir)
    lines += _entry("stored", here) if here else _how_to_get(dataset_info, data_dir)
    lines += _classes(dataset_info, data_dir, bool(here))
    groups = dataset_info.superclasses
    if groups is not None:
        lines.append(f"{len(groups.names)} superclasses")
        for row, name in enumerate(groups.names):
            pairs = zip(dataset_info.class_names, groups.of_class, strict=True)
            lines.append(f"  {name}: {', '.join(fine for fine, group in pairs if group == row)}")
    return "\n".join(lines)


def found(dataset_info: DatasetInfo, data_dir: str | Path | None = None) -> str:
    """Returns where a dataset is on this machine, as text for a user.

    Args:
        dataset_info: of the dataset.
        data_dir: as for `card`.

    Returns:
        "" if it is not on this machine; of one that has configs, those that are.
    """
    name, folder = dataset_info.name, storage.folder_of(data_dir)
    if dataset_info.embedded:
        return "in scikit-learn"
    if dataset_info.builder:
        return builders.stored(dataset_info, folder)
    if dataset_info.configs:
        present = [c for c in dataset_info.configs if storage.find(f"{name}/{c}", folder)]
        return f"{folder / name}: {' '.join(present)}" if present else ""
    return str(storage.find(name, folder) or "")


def one_line(dataset_info: DatasetInfo) -> str:
    """Returns a dataset's name, number of classes, shape and sizes.

    Args:
        dataset_info: of the dataset.

    Returns:
        For example "digits: 10 classes, 16 x 16 x 1, 1,437 train, 360 test".
    """
    sizes = [f"{count:,} {split}" for split, count in dataset_info.num_examples.items()]
    if len(sizes) > 3:
        sizes = [sizes[0], f"{sizes[1]} to {sizes[-1].split()[1]} alike"]
    shape = " x ".join(map(str, dataset_info.image_shape))
    return f"{dataset_info.name}: {dataset_info.num_classes} classes, {shape}, {', '.join(sizes)}"


def _entry(label: str, text: str) -> list[str]:
    """Returns a label and its text, wrapped to the width of the card."""
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=f"{label:<{_LABEL}}",
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _how_to_get(dataset_info: DatasetInfo, data_dir: str | Path | None) -> list[str]:
    name = dataset_info.name
    command = f"python -m rbjax.data {name} --prepare"
    if dataset_info.configs:
        command = f"python -m rbjax.data {name}/{dataset_info.configs[0]} --prepare"
    who = "rbjax" if dataset_info.builder else "TFDS"
    by_hand = bool(dataset_info.how_to_get)
    when = (
        f"then {who} prepares it" if by_hand else f"with a network: {who} downloads and prepares it"
    )
    lines = _entry("stored", f"not in {data_dir or storage.default_data_dir()}")
    if dataset_info.how_to_get:
        lines += _entry("first", dataset_info.how_to_get)
    if dataset_info.name == "alignmnist_generated":
        return lines
    lines += [
        f"{'get it':<{_LABEL}}{command}",
        f"{'':<{_LABEL}}    {when}",
        f"{'':<{_LABEL}}{command} --from=URL_OR_PATH",
        f"{'':<{_LABEL}}    the same, from a mirror or from local files, verified in the same way",
    ]
    prepared = f"rbjax/mapped/{name}" if dataset_info.builder else name
    if name != "alignmnist":  # its file is used as it is
        lines += _entry("", f"or copy the folder {prepared} of a machine that has it prepared")
    for file in published_files(name):
        size = file.about or "size not published"
        if file.num_bytes is not None:
            size = f"{file.num_bytes:,} bytes"
        checksum = "no published checksum" if file.sha256 is None else f"SHA-256 {file.sha256}"
        lines += _entry("file", f"{file.name}, {size}, {checksum}, {file.url}")
    return lines


def _classes(dataset_info: DatasetInfo, data_dir: str | Path | None, here: bool) -> list[str]:
    """Returns a line per class, or one for all if there are many or all have one size."""
    # The published counts, and those that can be counted quickly without preparation.
    counts = {split: np.array(column) for split, column in dataset_info.class_counts.items()}
    for split in dataset_info.num_examples if here else ():
        is_quick = dataset_info.storage == "memory" and not dataset_info.configs
        if dataset_info.builder:
            is_quick = builders.place(dataset_info, split, storage.folder_of(data_dir)).exists()
        if split not in counts and is_quick:
            counts[split] = load(dataset_info.name, split, data_dir=data_dir).class_counts
    counts = {split: counts[split] for split in dataset_info.num_examples if split in counts}
    class_names = dataset_info.class_names
    if len(class_names) > _MOST_NAMES:
        class_names = (*class_names[:3], "...", class_names[-1])
    names = ", ".join(class_names)
    if not counts:
        return _entry("classes", names)
    if all(len(set(column.tolist())) == 1 for column in counts.values()):
        each = ", ".join(f"{column[0]:,} {split}" for split, column in counts.items())
        return _entry("classes", f"{each} each: {names}")
    if dataset_info.num_classes > _MOST_ROWS:
        spread = ", ".join(f"{c.max():,} to {c.min():,} {split}" for split, c in counts.items())
        return _entry("classes", f"{spread}: {names}")
    counts = dict(list(counts.items())[:2])
    width = max(len("class"), *map(len, dataset_info.class_names))
    lines = [f"{'':>3}  {'class':<{width}}" + "".join(f"{split:>8}" for split in counts)]
    for label, class_name in enumerate(dataset_info.class_names):
        row = "".join(f"{column[label]:>8,}" for column in counts.values())
        lines.append(f"{label:>3}  {class_name:<{width}}{row}")
    return lines
