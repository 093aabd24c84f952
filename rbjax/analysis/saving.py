"""Results as files: one CSV of examples for other programs, or everything, to be loaded again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbjax import atomic, attacks, rpr
from rbjax.analysis.evaluation import Report
from rbjax.analysis.results import columns, setting
from rbjax.attacks.outcome import Verdict
from rbjax.compared import Compared
from rbjax.corruptions import CorruptionResult
from rbjax.errors import a_type
from rbjax.metrics import ClasswiseMetrics
from rbjax.paths import expanded, of_a_file

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(attacks.SuiteResult, attacks.Outcome, attacks.Setting, attacks.Passes),
        *(attacks.AutoAttackResult, Verdict, attacks.Findings, attacks.Finding),
        *(attacks.UniversalResult, attacks.ClasswiseResult, attacks.UniversalDeepFoolResult),
        *(attacks.UniversalEvaluation, CorruptionResult, ClasswiseMetrics),
        *(rpr.Scores, rpr.Repeated, Report, Compared, rpr.Comparison),
    )
}
"""What can be saved whole, by its name in the file."""
_TREE = "result"
"""The array that says how the others belong together, as JSON."""
_SUFFIXES = (".npz", ".csv")


def save(result: Any, path: str | os.PathLike[str]) -> Path:
    """Saves a result, completely or not at all.

    Args:
        result: as for `analysis.table`.
        path: of the file: `.npz`, everything, for `analysis.load`; or `.csv`, the numbers of
            `analysis.columns` and the setting, for other programs: a row an example, or of a run's
            report, which holds none, a class (of each example there is examples.csv beside it).

    Returns:
        The path.

    Raises:
        ValueError: for what is no result, another suffix, or a folder that is not there.
    """
    place = of_a_file(path)
    suffix = place.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"path = {str(path)!r}: suffix {suffix!r}; allowed: .npz (everything), .csv (a row an "
            "example)"
        )
    if suffix == ".csv":
        write_columns(place, result, columns(result))
        return place
    if type(result).__name__ not in KINDS:
        raise ValueError(f"result is {a_type(result)}; it must be one of {', '.join(KINDS)}")
    arrays: dict[str, np.ndarray] = {}
    tree = json.dumps(_packed(result, "", arrays))
    atomic.write_npz(place, **{_TREE: np.asarray(tree)}, **arrays)
    return place


def write_columns(path: Path, result: Any, values: Mapping[str, Any]) -> None:
    """Writes columns of a result as CSV; one says in each row what it was measured under.

    Args:
        path: the file.
        result: what they are of.
        values: by heading, all of one length.
    """
    said, count = setting(result), len(next(iter(values.values())))
    last = {"setting": [said] * count} if said and "setting" not in values else {}
    atomic.write_csv(path, {**values, **last}.items())


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a result that `save` wrote as `.npz`; nothing that a file names is imported.

    Raises:
        ValueError: if there is no such file, or it is damaged or holds no result.
    """
    place = expanded(path)
    if not place.is_file():
        raise ValueError(f"path = {str(path)!r}: there is no such file")
    arrays = atomic.read_npz(place) or {}
    try:
        return _unpacked(json.loads(str(arrays[_TREE])), arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"path = {str(path)!r}: is damaged, or holds no result that analysis.save wrote "
            f"({type(error).__name__}: {error})"
        ) from None


def _packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns a value as JSON has it; its arrays are put aside by name."""

    def fields(values: Mapping[str, Any]) -> dict[str, Any]:
        return {k: _packed(v, f"{name}/{k}" if name else k, arrays) for k, v in values.items()}

    kind = type(value).__name__
    if KINDS.get(kind) is type(value):
        if isinstance(value, Report):
            return {"kind": kind, "of": fields({"items": dict(value)})}
        if isinstance(value, attacks.Findings):
            return {"kind": kind, "of": fields({"findings": list(value), **vars(value)})}
        parts = value._asdict() if hasattr(value, "_asdict") else vars(value)
        return {"kind": kind, "of": fields(parts)}
    if isinstance(value, np.ndarray | jax.Array):
        arrays[name or "value"] = np.asarray(value)
        return {"array": name or "value"}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {"items": fields({str(k): v for k, v in value.items()})}
    if isinstance(value, list | tuple):
        inside = list(fields({str(i): v for i, v in enumerate(value)}).values())
        return {"tuple": inside} if isinstance(value, tuple) else inside
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _packed(np.asarray(value[:]), name, arrays)  # images that are read block by block


def _unpacked(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(part, arrays) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "tuple" in tree:
        return tuple(_unpacked(part, arrays) for part in tree["tuple"])
    if "items" in tree:
        return {name: _unpacked(part, arrays) for name, part in tree["items"].items()}
    made = {name: _unpacked(part, arrays) for name, part in tree["of"].items()}
    kind = KINDS[tree["kind"]]
    return Report(made["items"]) if kind is Report else kind(**made)
