"""A model's variables from the state dict of PyTorch's implementation of it."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from rbjax import weights
from rbjax.errors import nearest, spelled
from rbjax.models.model import Model, Variables
from rbjax.models.torch_layouts import LAYOUTS, Names, Path, Shapes

_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""What PyTorch calls parameters and statistics."""
_OF_A_WHOLE_MODULE = re.compile(r"(^|\.)(?:_modules|_parameters|_buffers)\.")
_OF_TRAINING = re.compile(r"(optim|opt$|sched|lr_sched|amp$|scaler)|rng")
"""What the part of a checkpoint is called that holds an optimizer's moments, and the like; a module
may have such a name too."""
_NORMALIZERS = {"mean": ("mean", "new_mean", "mu"), "std": ("std", "new_std", "sigma")}
_COUNTER = "num_batches_tracked"
_MOST_LINES = 20


class _Wanted(NamedTuple):
    """A tensor that a model needs."""

    shape: tuple[int, ...]
    """As PyTorch has it."""
    flax_path: Path
    flattened: tuple[int, int, int] | None


def from_torch(
    model: Model, path: str | os.PathLike[str], *, prefix: str | None = None
) -> Variables:
    """Reads a model's variables from a file of PyTorch's or safetensors, without PyTorch.

    Prefixes (`module.`, `state_dict.model.`), counters of batches, optimizers' moments, numbers
    beside the state dict, second copies of the same weights, auxiliary classifiers and batch norms
    that never saw a batch are passed over; a normaliser in the file must be the model's own.
    Whatever else is left over, missing or misshapen is an error.

    What a state dict does not say is the caller's to know: mean and std (torchvision's Inception-v3
    is given 0.5 and 0.5), the kind of pooling, `shortcut` of preact_resnet18.

    Args:
        model: of the architecture and size in the file, with the file's mean and std.
        path: as of `rbjax.weights.read`: nothing that the file names is run.
        prefix: what the names of the model's tensors begin with, where the file has several sets
            of weights that differ; None where it has one.

    Returns:
        The variables, float32.

    Raises:
        ValueError: one line for each tensor that does not fit, naming the file.
    """
    shapes, wanted_shapes = _shapes(model)
    layouts = LAYOUTS.get(model.name, ())
    if not layouts:
        raise ValueError(
            f"model is {model.name!r}, of which no published PyTorch implementation is known, so "
            f"there are no names to go by; allowed: {', '.join(LAYOUTS)}"
            f"{nearest(model.name, LAYOUTS)}; rbjax.load reads what rbjax.save wrote, and "
            "rbjax.weights.read gives the tensors of any file by name"
        )
    read = weights.read(path)
    tensors = {_OF_A_WHOLE_MODULE.sub(r"\1", name): array for name, array in read.tensors.items()}
    candidates = [layout(shapes, model.image_shape) for layout in layouts]
    fitting = [
        (_wanted(names, wanted_shapes), names)
        for names in candidates
        if {*shapes} <= {*names.modules}
    ]
    if not fitting:
        raise ValueError(f"model {model.name!r} in this form: no layout of PyTorch's is known")
    wanted, names = max(
        fitting, key=lambda pair: max(_prefixes(tensors, pair[0]).values(), default=0)
    )
    chosen = _chosen(tensors, wanted, prefix, path)
    unused = tuple(chosen + start for start in names.unused)
    lines = _misfits(tensors, wanted, chosen, read.skipped)
    lines += _left_over(tensors, wanted, chosen, unused)
    lines += _other_normalizers(tensors, wanted, chosen, model)
    if lines:
        more = [f"... and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        raise ValueError("\n".join(f"{path}: {line}" for line in lines[:_MOST_LINES] + more))
    flat = {want.flax_path: _ours(tensors[chosen + name], want) for name, want in wanted.items()}
    return traverse_util.unflatten_dict(flat)


def _shapes(model: Model) -> tuple[Shapes, dict[Path, tuple[int, ...]]]:
    """Returns the shapes of a model's variables, by module and by path."""
    variables: dict[Path, Any] = traverse_util.flatten_dict(model.shapes)
    by_path = {path: tuple(leaf.shape) for path, leaf in variables.items()}
    by_module: dict[Path, dict[str, tuple[int, ...]]] = collections.defaultdict(dict)
    for path, shape in by_path.items():
        by_module[path[1:-1]][path[-1]] = shape
    return by_module, by_path


def _wanted(names: Names, shapes: Mapping[Path, tuple[int, ...]]) -> dict[str, _Wanted]:
    """Returns the tensors that a layout has for a model's variables, by PyTorch's name."""
    wanted = {}
    for path, shape in shapes.items():
        module = path[1:-1]
        name = f"{names.modules[module]}.{_LEAVES[path[-1]]}"
        theirs = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        wanted[name] = _Wanted(theirs, path, names.flattened.get(module))
    return wanted


def _prefixes(tensors: Iterable[str], wanted: Mapping[str, Any]) -> dict[str, int]:
    """Returns what stands before the names of wanted tensors, and before how many of them."""
    found: collections.Counter[str] = collections.Counter()
    for name in tensors:
        words = name.split(".")
        for start in range(len(words)):
            suffix = ".".join(words[start:])
            if suffix in wanted:
                found[name.removesuffix(suffix)] += 1
    return dict(found)


def _chosen(
    tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any], prefix: str | None, path: Any
) -> str:
    """Returns what the names of the model's tensors begin with."""
    found = _prefixes(tensors, wanted)
    if not found:
        raise ValueError(
            f"{path}: has none of the model's tensors, such as {next(iter(wanted))}; it has "
            f"{', '.join(map(spelled, list(tensors)[:5])) or 'no tensors'}"
        )
    if prefix is not None:
        if prefix not in found:
            raise ValueError(
                f"prefix is {prefix!r}; allowed: {', '.join(map(repr, found))}"
                f"{nearest(prefix, found)}"
            )
        return prefix
    most = max(found.values())
    fullest = [prefix for prefix, count in found.items() if count == most]
    for other in fullest[1:]:
        if not all(_is_copy(tensors, fullest[0] + name, other + name) for name in wanted):
            raise ValueError(
                f"{path}: has weights under {' and '.join(map(repr, fullest))}, which differ; "
                "say which by `prefix`"
            )
    return fullest[0]


def _is_copy(tensors: Mapping[str, np.ndarray], one: str, other: str) -> bool:
    """Returns whether two names have the same tensor, or neither has one."""
    if one not in tensors or other not in tensors:
        return one not in tensors and other not in tensors
    return np.array_equal(tensors[one], tensors[other])


def _misfits(
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, _Wanted],
    prefix: str,
    skipped: Iterable[str],
) -> list[str]:
    """Returns a line for each tensor that is missing or misshapen."""
    lines = []
    reasons = dict(entry.split(": ", 1) for entry in skipped if ": " in entry)
    for name, want in wanted.items():
        full = prefix + name
        if full not in tensors:
            why = f": skipped, it needs {reasons[full]}" if full in reasons else ""
            lines.append(f"{spelled(full)} {want.shape} is missing{why}")
        elif tensors[full].shape not in (want.shape, *_as_convolutions(want)):
            lines.append(f"{spelled(full)} is {tensors[full].shape}; must be {want.shape}")
        elif not jnp.issubdtype(tensors[full].dtype, jnp.floating):
            lines.append(f"{spelled(full)} is {tensors[full].dtype}; must be floating point")
    return lines


def _as_convolutions(want: _Wanted) -> list[tuple[int, ...]]:
    """Returns the shapes of a dense layer's weights where PyTorch has a convolution for it."""
    if want.flax_path[-1] != "kernel" or len(want.shape) != 2:
        return []
    shapes: list[tuple[int, ...]] = [(*want.shape, 1, 1)]
    if want.flattened is not None:
        height, width, channels = want.flattened
        shapes.append((want.shape[0], channels, height, width))
    return shapes


def _left_over(
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, _Wanted],
    prefix: str,
    unused: tuple[str, ...],
) -> list[str]:
    """Returns a line for each tensor that the model has no place for."""
    full_sets = [other for other, n in _prefixes(tensors, wanted).items() if n == len(wanted)]
    lines = []
    for name, array in tensors.items():
        is_used = any(_is_one_of(name, start, wanted) for start in (prefix, *full_sets))
        is_passed_over = (
            name.endswith(_COUNTER)
            or name.startswith(unused)
            or _is_of_training(name, prefix)
            or (array.ndim == 0 and _stands_beside(name, prefix))
            or _normalizes(name) is not None
            or _never_ran(tensors, name.rpartition(".")[0])
        )
        if not is_used and not is_passed_over:
            lines.append(f"{spelled(name)} {array.shape} is left over: the model has no place")
    return lines


def _is_one_of(name: str, prefix: str, wanted: Mapping[str, Any]) -> bool:
    return name.startswith(prefix) and name.removeprefix(prefix) in wanted


def _is_of_training(name: str, prefix: str) -> bool:
    """Returns whether a tensor is an optimizer's or the like: no module's, beside the weights."""
    is_parameter = name.rpartition(".")[2] in _LEAVES.values()
    is_called_so = _OF_TRAINING.match(name.partition(".")[0]) is not None
    return is_called_so and not is_parameter and _stands_beside(name, prefix)


def _stands_beside(name: str, prefix: str) -> bool:
    """Returns whether a tensor is outside of the dict that has the weights, as accuracies are."""
    return prefix != "" and name.partition(".")[0] != prefix.partition(".")[0]


def _never_ran(tensors: Mapping[str, np.ndarray], module: str) -> bool:
    """Returns whether a batch norm is as it was made: in the module, but not in its `forward`."""
    made = {_COUNTER: 0, "running_mean": 0, "running_var": 1, "weight": 1, "bias": 0}
    have = [tensors.get(f"{module}.{name}") for name in made]
    return all(
        array is not None and np.all(array == value)
        for array, value in zip(have, made.values(), strict=True)
    )


def _normalizes(name: str) -> str | None:
    """Returns whether a tensor is a normaliser's "mean" or "std"."""
    last = name.rpartition(".")[2]
    return next((field for field, words in _NORMALIZERS.items() if last in words), None)


def _other_normalizers(
    tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any], prefix: str, model: Model
) -> list[str]:
    """Returns a line for each normaliser that is not the model's."""
    lines = []
    for name, array in tensors.items():
        field = _normalizes(name)
        if field is None or _is_one_of(name, prefix, wanted):
            continue
        ours = getattr(model, field)
        theirs = np.asarray(array, np.float64).reshape(-1)
        if theirs.shape != (len(ours),) or not np.allclose(theirs, ours, rtol=1e-5, atol=1e-6):
            values = ", ".join(f"{value:.6g}" for value in theirs[:8])
            lines.append(f"{spelled(name)} is ({values}); the model's {field} is {ours}")
    return lines


def _ours(array: np.ndarray, want: _Wanted) -> jax.Array:
    """Returns a tensor as Flax has it: OIHW as HWIO, (K, F) as (F, K); a copy."""
    array = np.asarray(array).astype(np.float32).reshape(want.shape)
    if want.flattened is not None and want.flax_path[-1] == "kernel":
        height, width, channels = want.flattened
        maps = array.reshape(-1, channels, height, width)
        array = maps.transpose(0, 2, 3, 1).reshape(len(array), -1)
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    return jnp.asarray(np.ascontiguousarray(array.T if array.ndim == 2 else array))
