"""What the nodes of a pickle mean: the few calls whose meaning is known are done by ourselves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from rbjax.weights.pickles import Call, Global, Mapping, Persistent, Set
from rbjax.weights.storages import DTYPES, STORAGES, WIDTHS_OF_OTHERS, Storage, View, make_view

_DEEPEST = 100
_DTYPE = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")
_DTYPE_NAMES = {f"torch.{name}" for name in DTYPES}


def scalar(value: Any) -> bool:
    """Returns whether a value is a number, text, bytes or None."""
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def name_of(function: Any, depth: int = 0) -> str:
    """Returns the name of what would be called."""
    if isinstance(function, Global):
        return function.name
    if isinstance(function, Persistent):
        module = _module(function)
        return name_of(module, depth + 1) if module and depth < _DEEPEST else "a persistent object"
    if isinstance(function, Call) and depth < _DEEPEST:
        title = next((argument for argument in function.args if isinstance(argument, str)), "")
        return f"{name_of(function.function, depth + 1)}({title!r})"
    return type(function).__name__


def known(node: Any, depth: int = 0) -> Any:
    """Returns what a node means, itself where that is not known.

    Args:
        node: of `pickles.read`.
        depth: how many nodes it is inside of.

    Returns:
        A number, text, bytes, None, list, tuple, `Set`, `Mapping`, `View`, `Storage` or array; a
        `Global`, `Call` or `Persistent` that is skipped.

    Raises:
        ValueError: if a known call has arguments that it cannot have.
    """
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    if isinstance(node, bytearray):
        return bytes(node)
    if isinstance(node, Global):
        return node.name if node.name in _DTYPE_NAMES else node
    if isinstance(node, Persistent):
        return _storage(node)
    if not isinstance(node, Call):
        return node
    name = name_of(node.function).replace("numpy._core.", "numpy.core.")
    if name not in KNOWN or node.is_new:
        return node
    try:
        return KNOWN[name](node, [known(argument, depth + 1) for argument in node.args], depth)
    except (TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{name} with arguments that it cannot have ({error})") from None


def _module(node: Persistent) -> Any:
    """Returns the class that was stored with its source, before torch 1.6; else None."""
    said = node.said
    return said[1] if isinstance(said, tuple) and len(said) > 1 and said[0] == "module" else None


def storage_of(node: Persistent) -> tuple[str, int, int] | None:
    """Returns key, number of elements and bytes of one, None where no such storage is known.

    Raises:
        ValueError: if key and number are none.
    """
    said = node.said
    if not isinstance(said, tuple) or len(said) not in (5, 6) or said[0] != "storage":
        return None
    kind, key, length = said[1], said[2], said[4]
    if not isinstance(kind, Global) or not kind.name.startswith("torch."):
        return None
    dtype = STORAGES.get(_last(kind))
    width = WIDTHS_OF_OTHERS.get(_last(kind)) if dtype is None else dtype.itemsize
    if width is None:
        return None
    if not isinstance(key, str) or type(length) is not int or length < 0:
        raise ValueError(f"a storage of key {key!r:.50} and {length!r:.50} elements")
    return key, length, width


def _last(kind: Global) -> str:
    return kind.name.rpartition(".")[2]


def _storage(node: Persistent) -> Any:
    """Returns the storage that is meant; the node itself where there is no such dtype here."""
    found = storage_of(node)
    dtype = STORAGES.get(_last(node.said[1])) if found else None
    if found is None or dtype is None:
        return node
    key, length, _ = found
    view = node.said[5] if len(node.said) == 6 else None
    if view is None:
        return Storage(key, dtype, length)
    start, count = view[1:3] if isinstance(view, tuple) and len(view) == 3 else (None, None)
    if type(start) is not int or type(count) is not int or min(start, count) < 0:
        raise ValueError(f"a view of storage {key!r:.50} that is not given by two whole numbers")
    if start + count > length:
        raise ValueError(f"a view of storage {key!r:.50} to {start + count:,} of {length:,}")
    return Storage(key, dtype, count, start)


def _plain(metadata: Any) -> Any:
    return dict(metadata.pairs) if _is_plain_mapping(metadata) else None


def _is_plain_mapping(node: Any) -> bool:
    return isinstance(node, Mapping) and all(isinstance(key, str) for key, _ in node.pairs)


def _tensor(node: Call, args: list[Any], depth: int) -> Any:
    """`_rebuild_tensor(storage, offset, size, strides)`."""
    if not isinstance(args[0], Storage):
        return node
    return make_view(*args[:4])


def _tensor_v2(node: Call, args: list[Any], depth: int) -> Any:
    """`(storage, offset, size, strides, requires_grad, backward_hooks, metadata=None)`."""
    if not isinstance(args[0], Storage):
        return node
    return make_view(*args[:4], metadata=_plain(args[6]) if len(args) > 6 else None)


def _tensor_v3(node: Call, args: list[Any], depth: int) -> Any:
    """As v2 of an untyped storage, the dtype before the metadata."""
    dtype = DTYPES.get(str(args[6]).removeprefix("torch."))
    if not isinstance(args[0], Storage) or dtype is None:
        return node
    metadata = _plain(args[7]) if len(args) > 7 else None
    return make_view(*args[:4], dtype=dtype, metadata=metadata)


def _parameter(node: Call, args: list[Any], depth: int) -> Any:
    """`(data, requires_grad, backward_hooks)`."""
    return args[0] if isinstance(args[0], View) else node


def _tensor_with_attributes(node: Call, args: list[Any], depth: int) -> Any:
    """`(function, type, args, state)`: the tensor, without its attributes."""
    tensor = known(Call(args[0], args[2]), depth + 1)
    return tensor if isinstance(tensor, View) else node


def _mapping(node: Call, args: list[Any], depth: int) -> Any:
    """A dict of one class or another, which is given its pairs afterwards."""
    given = args[0] if args else Mapping([])
    if isinstance(given, Mapping):
        return Mapping(given.pairs + node.pairs)
    if isinstance(given, list) and all(_is_pair(item) for item in given):
        return Mapping([(item[0], item[1]) for item in given] + node.pairs)
    return node


def _is_pair(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2


def _default_mapping(node: Call, args: list[Any], depth: int) -> Any:
    """What is missing would be made by a function, which is not kept."""
    return _mapping(node, args[1:], depth)


def _sequence(node: Call, args: list[Any], depth: int) -> Any:
    """`torch.Size((...))` and a deque."""
    given = args[0] if args else []
    if not isinstance(given, list | tuple):
        return node
    return given if isinstance(given, tuple) else given + node.items


def _set(node: Call, args: list[Any], depth: int) -> Any:
    given = args[0] if args else []
    return Set(list(given) + node.items) if isinstance(given, list | tuple) else node


def _bytes(node: Call, args: list[Any], depth: int) -> Any:
    """`bytes()`, `bytearray(b"")`; and `_codecs.encode("", "latin1")`, protocol 2's bytes."""
    if not args:
        return b""
    if isinstance(args[0], bytes) and len(args) == 1:
        return args[0]
    if isinstance(args[0], str) and args[1] in ("latin1", "latin-1"):
        return args[0].encode("latin-1")
    return node


def _complex(node: Call, args: list[Any], depth: int) -> Any:
    return complex(*args)


def _device(node: Call, args: list[Any], depth: int) -> Any:
    """`torch.device("cuda", 0)`: its name."""
    return ":".join(map(str, args)) if all(map(scalar, args)) else node


def _dtype(node: Any) -> np.dtype | None:
    """Returns NumPy's dtype, None for one that is not of numbers or text."""
    if not isinstance(node, Call) or name_of(node.function) != "numpy.dtype":
        return None
    name = node.args[0] if node.args else None
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        return None
    dtype = np.dtype(name)
    state = node.states[-1] if node.states else None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
    return dtype.newbyteorder(order) if order in ("<", ">", "=") else dtype


def _numpy_scalar(node: Call, args: list[Any], depth: int) -> Any:
    """`(dtype, bytes)`."""
    dtype, content = _dtype(args[0]), args[1]
    if dtype is None:
        return node
    return _numpy_array(dtype, (), content, "C").item()


def _numpy_reconstruct(node: Call, args: list[Any], depth: int) -> Any:
    """An array, whose state is (version, shape, dtype, is_fortran, bytes)."""
    state = node.states[-1] if node.states else None
    if not isinstance(state, tuple) or len(state) != 5 or name_of(args[0]) != "numpy.ndarray":
        return node
    dtype = _dtype(state[2])
    if dtype is None:
        return node
    return _numpy_array(dtype, state[1], known(state[4], depth + 1), "F" if state[3] else "C")


def _numpy_from_buffer(node: Call, args: list[Any], depth: int) -> Any:
    """`(bytes, dtype, shape, order)`: protocol 5."""
    dtype = _dtype(args[1])
    return node if dtype is None else _numpy_array(dtype, args[2], args[0], args[3])


def _numpy_array(dtype: np.dtype, shape: Any, content: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # Python 2's bytes
        content = content.encode("latin-1")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"a NumPy array of shape {shape!r:.50}")
    needed = math.prod(shape) * dtype.itemsize
    if not isinstance(content, bytes) or len(content) != needed or order not in ("C", "F"):
        raise ValueError(f"a NumPy array {dtype} {shape}, whose bytes do not fit")
    if not needed:
        return np.zeros(shape if dtype.itemsize else (), dtype)
    array = np.frombuffer(content, dtype).reshape(shape, order=order)
    return array.astype(dtype.newbyteorder("="), copy=False)


KNOWN: dict[str, Callable[[Call, list[Any], int], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
    "torch.Size": _sequence,
    "torch.device": _device,
    "torch.serialization._get_layout": _device,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "collections.Counter": _mapping,
    "collections.deque": _sequence,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "numpy.core.multiarray._reconstruct": _numpy_reconstruct,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy.core.numeric._frombuffer": _numpy_from_buffer,
    "numpy.dtype": lambda node, args, depth: node,
}
"""Name of a function -> what it would return, from the call, its arguments and its depth."""
