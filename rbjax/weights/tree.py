"""From what a pickle says to tensors, values and what was skipped, each under a dotted name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rbjax.errors import spelled
from rbjax.weights.pickles import Call, Mapping, Pickle, Set
from rbjax.weights.storages import Contents, Storage, View
from rbjax.weights.values import KNOWN, known, name_of, scalar

_DEEPEST = 100
_MOST_SHARED = 20
"""How many times as many values as opcodes there may be: a list that holds one list ten times,
which holds one list ten times, and so on, is short in a pickle and endless as a tree."""


class Weights(NamedTuple):
    """What a file of weights holds, under dotted names: `state_dict.layer1.0.conv1.weight`."""

    tensors: dict[str, np.ndarray]
    """Name -> tensor, mostly in the file's own memory and read-only."""
    others: dict[str, Any]
    """Name -> number, text, bytes, None, or a list, tuple or set of them; an empty dict."""
    skipped: tuple[str, ...]
    """"name: function or class" for each part that a function would have to be called for, and
    "function" for calls of which nothing is kept."""


def collect(pickle: Pickle, contents: Contents) -> Weights:
    """Returns the leaves of a pickle; the state of an unknown object is taken as a dict would be.

    Args:
        pickle: as from `pickles.read`.
        contents: storage -> its bytes.

    Raises:
        ValueError: naming the tensor, for one that does not fit into its storage; for two values of
            one name, or a tree that is too deep or too large.
    """
    collector = _Collector(contents, 1000 + _MOST_SHARED * pickle.num_steps)
    collector.visit(pickle.root, "")
    for call in pickle.calls:
        name = name_of(call.function)
        if id(call) not in collector.seen and name.replace("._core.", ".core.") not in KNOWN:
            collector.skipped.setdefault(name)
    return Weights(collector.tensors, collector.others, tuple(collector.skipped))


class _Collector:
    def __init__(self, contents: Contents, most: int) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        self.others: dict[str, Any] = {}
        self.skipped: dict[str, None] = {}
        self.seen: set[int] = set()
        """Identities of the calls that have a place in the tree."""
        self._contents, self._most = contents, most
        self._path: set[int] = set()
        self._visited = 0

    def visit(self, node: Any, name: str) -> None:
        """Takes a node and all below it; one that holds itself is taken once."""
        if id(node) in self._path:
            return
        self._path.add(id(node))
        try:
            if len(self._path) > _DEEPEST:
                raise ValueError(f"nested more than {_DEEPEST} deep")
            self._take(node, known(node), name)
        except ValueError as error:
            if isinstance(error, _NamedError):
                raise
            raise _NamedError(f"{spelled(name)}: {error}") from None
        finally:
            self._path.discard(id(node))

    def _take(self, node: Any, value: Any, name: str) -> None:
        self._count(1)
        if isinstance(value, View):
            self._keep(self.tensors, name, value.array(self._contents))
        elif isinstance(value, Storage):
            whole = View(value, value.dtype, 0, (value.length,), (1,))
            self._keep(self.tensors, name, whole.array(self._contents))
        elif isinstance(value, np.ndarray):
            self._keep(self.tensors, name, value)
        elif scalar(value):
            self._keep(self.others, name, value)
        elif isinstance(value, Mapping):
            self._take_pairs(value.pairs, name)
        elif isinstance(value, list | tuple | Set):
            self._take_items(value, name)
        else:
            self._skip(value, name)

    def _skip(self, value: Any, name: str) -> None:
        """Names what is skipped, and goes on with the state that an object would be given."""
        function = value.function if isinstance(value, Call) else value
        self.skipped.setdefault(f"{name}: {name_of(function)}" if name else name_of(function))
        if not isinstance(value, Call):
            return
        self.seen.add(id(value))
        made_of = [arg for arg in value.args if value.is_new and arg is not None] + value.items
        self._take_pairs(list(enumerate(made_of)) + value.pairs, name, is_part=True)
        for state in value.states:
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                if isinstance(part, Mapping):
                    self._take_pairs(part.pairs, name, is_part=True)
                elif part is not None:
                    self.visit(part, _joined(name, "state"))

    def _take_pairs(
        self, pairs: list[tuple[Any, Any]], name: str, *, is_part: bool = False
    ) -> None:
        if not pairs and not is_part:
            self._keep(self.others, name, {})
        labelled: dict[str, tuple[Any, Any]] = {}
        for position, (key, item) in enumerate(pairs):
            label = _label(key, position)
            if label in labelled and not _is_same(labelled[label][0], key):
                raise ValueError(f"two keys are spelled {label!r:.50}")
            labelled[label] = (key, item)
        self._count(len(labelled))
        for label, (_, item) in labelled.items():
            self.visit(item, _joined(name, label))

    def _take_items(self, value: Any, name: str) -> None:
        """Keeps a list of numbers and text as it is; of another, each item under its number."""
        items = value.items if isinstance(value, Set) else value
        self._count(len(items))
        values = [item if scalar(item) else known(item) for item in items]
        if not all(map(scalar, values)):
            for position, item in enumerate(items):
                self.visit(item, _joined(name, str(position)))
            return
        kind = set if isinstance(value, Set) else type(value)
        self._keep(self.others, name, kind(values))

    def _keep(self, kept: dict[str, Any], name: str, value: Any) -> None:
        if name in self.tensors or name in self.others:
            raise ValueError("two values of this name")
        kept[name] = value

    def _count(self, number: int) -> None:
        self._visited += number
        if self._visited > self._most:
            raise ValueError(f"over {self._most:,} values, each counted as often as it is used")


class _NamedError(ValueError):
    """An error that says already of what."""


def _joined(name: str, label: str) -> str:
    return f"{name}.{label}" if name else label


def _label(key: Any, position: int) -> str:
    """Returns how a key is spelled in a dotted name."""
    if isinstance(key, str):
        return key
    if isinstance(key, tuple) and all(map(scalar, key)):
        return repr(key)
    return str(key) if scalar(key) else f"<{position}>"


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
