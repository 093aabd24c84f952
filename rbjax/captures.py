"""What a function reads beside its arguments: closures, globals, defaults, attributes.

None of it is seen by what knows a function by its name or its identity: a journal, a compiled
program, and what JAX remembers of a trace.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import itertools
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jax.core import Tracer

LIBRARIES = frozenset({"rbjax", "jax", "jaxlib", "numpy", "flax", "optax", "chex"}) | (
    sys.stdlib_module_names - {"__main__"}
)
"""Packages whose own functions do the same from one call to the next."""
_JITTED_IN = tuple(
    f"{folder}/"
    for folder in (
        Path(__file__).parent,
        *(Path(jax.__file__).parents[1] / name for name in ("jax", "flax", "optax", "chex")),
    )
)
_ARRAYS = (jax.Array, np.ndarray)
_VALUES = (bool, int, float, complex, str, bytes, np.generic)
_MOMENT = jax.make_user_context(0)
_moments = itertools.count(1)


def trace(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """Returns a function's program and the shapes of its results, as it is at this moment.

    What `jit` remembers of a function is what that read when it was first called: of the function
    itself, and of jitted functions that it calls, nothing that is remembered is taken.

    Args:
        fn: a function of arrays.
        *args: arrays, or their shapes and dtypes.
    """
    is_jitted = hasattr(fn, "lower") and hasattr(fn, "__wrapped__")
    fn = fn.__wrapped__ if is_jitted else fn

    def make() -> tuple[Any, Any]:
        # A lambda of its own, since `make_jaxpr` remembers functions too.
        return jax.make_jaxpr(lambda *args: fn(*args), return_shape=True)(*args)

    jaxpr, out = make()
    if not any(map(_is_jitted_elsewhere, _equations(jaxpr.jaxpr))):
        return jaxpr, out
    with _MOMENT(next(_moments)):
        return make()


def _is_jitted_elsewhere(eqn: Any) -> bool:
    """Returns whether an equation calls a jitted function of neither a library nor rbjax."""
    if eqn.primitive.name not in ("jit", "pjit"):
        return False
    file = eqn.params["jaxpr"].jaxpr.debug_info.func_filename
    return file is None or not file.startswith(_JITTED_IN)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yields the equations of a program and of the programs that they call."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(list(eqn.params.values())):
            body = getattr(inner, "jaxpr", inner)
            if hasattr(body, "eqns"):
                yield from _equations(body)


def constants(traced: Any) -> list[Any]:
    """Returns the arrays that a program, and the jitted functions and loops in it, capture."""
    captured = list(getattr(traced, "consts", ()))
    for eqn in getattr(traced, "jaxpr", traced).eqns:
        for inner in jax.tree.leaves(list(eqn.params.values())):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                captured += constants(inner)
    return captured


def leaked(fn: Any, depth: int = 3) -> str | None:
    """Returns where a function keeps a traced value, as far as it is cheap to look; or None."""
    for name, value in _entries(fn):
        if isinstance(value, Tracer):
            return name
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            return name
        inner = leaked(value, depth - 1) if depth > 1 else None
        if inner is not None:
            return f"{name}.{inner}"
    return None


def _entries(fn: Any) -> list[tuple[str, Any]]:
    """Returns the names and values that a function or an object holds itself."""
    entries: list[tuple[str, Any]] = []
    if isinstance(fn, types.MethodType):
        entries, fn = _entries(fn.__self__), fn.__func__
    if isinstance(fn, functools.partial):
        return [*_entries(fn.func), *((str(i), value) for i, value in enumerate(fn.args))]
    if isinstance(fn, type | types.ModuleType):
        return entries
    entries += list(getattr(fn, "__dict__", {}).items())
    if isinstance(fn, types.FunctionType):
        entries += _captured(fn)
    return entries


def _captured(fn: types.FunctionType) -> list[tuple[str, Any]]:
    """Returns the names and values in a function's closure."""
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]


def read_globals(fn: types.FunctionType) -> list[tuple[str, Any]]:
    """Returns the globals that a function reads, in it and in the functions inside it.

    Of a module that is no library's, what the function may read of it.
    """
    names = sorted(_names(fn.__code__))
    values = [(name, fn.__globals__[name]) for name in names if name in fn.__globals__]
    for module, value in list(values):
        if isinstance(value, types.ModuleType) and not is_of_library(value.__name__):
            read = [name for name in names if hasattr(value, name)]
            values += [(f"{module}.{name}", getattr(value, name)) for name in read]
    return values


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(value) for value in code.co_consts if isinstance(value, types.CodeType)]
    return set(code.co_names).union(*inner)


def is_of_library(module: str | None) -> bool:
    """Returns whether a module belongs to a library, or to rbjax."""
    return (module or "").split(".")[0] in LIBRARIES


def reads_state(fn: Any, seen: tuple[int, ...] = ()) -> bool:
    """Returns whether a function reads what may change beside its arguments, as far as seen.

    Looked at are its closure, its globals and defaults, the attributes of its object, and the same
    of the functions among them. Objects that refuse to be changed, and those of rbjax and the
    libraries, may hold numbers, but no arrays.
    """
    if id(fn) in seen:
        return False
    seen = (*seen, id(fn))
    fn = getattr(fn, "__wrapped__", fn)
    owner = fn.__self__ if isinstance(fn, types.MethodType) else fn
    if _holds(owner, seen):
        return True
    fn = getattr(fn, "__func__", fn)
    if not isinstance(fn, types.FunctionType):
        return False
    read = [value for _, value in _captured(fn)]
    is_fixed = is_of_library(fn.__module__)
    if not is_fixed:
        read += [value for _, value in read_globals(fn)]
    defaults = [fn.__defaults__, fn.__kwdefaults__]
    return _is_state(read, seen, _ARRAYS if is_fixed else (*_ARRAYS, *_VALUES)) or _is_state(
        defaults, seen, _ARRAYS
    )


def _holds(owner: Any, seen: tuple[int, ...]) -> bool:
    """Returns whether an object's attributes are state."""
    if isinstance(owner, functools.partial):
        return _is_state([owner.func, owner.args, owner.keywords], seen, _ARRAYS)
    if isinstance(owner, type | types.ModuleType | types.FunctionType):
        return False
    kind = type(owner)
    is_fixed = is_of_library(kind.__module__) or (
        dataclasses.is_dataclass(owner) and kind.__setattr__ is not object.__setattr__
    )
    values = list(getattr(owner, "__dict__", {}).values())
    return _is_state(values, seen, _ARRAYS if is_fixed else (*_ARRAYS, *_VALUES))


def _is_state(values: Any, seen: tuple[int, ...], kinds: tuple[type, ...]) -> bool:
    for leaf in jax.tree.leaves(values):
        if isinstance(leaf, kinds):
            return True
        is_function = isinstance(leaf, types.FunctionType | types.MethodType)
        # Functions at the top of a library's module are not followed.
        is_top = isinstance(leaf, types.FunctionType) and leaf.__closure__ is None
        if is_function or hasattr(leaf, "__wrapped__"):
            is_known = is_top and is_of_library(leaf.__module__)
            if not is_known and reads_state(leaf, seen):
                return True
        elif not is_function and id(leaf) not in seen and _holds(leaf, (*seen, id(leaf))):
            return True
    return False


def digest(value: Any) -> str:
    """Returns 16 hexadecimal digits of a function's code and of all that it reads.

    They are the same in another process.
    """
    return hashlib.sha256("\n".join(_spell(value, {})).encode()).hexdigest()[:16]


def _spell(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
    """Yields lines that change with what a value is and does."""
    kind = type(value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        is_key = jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(cast("jax.Array", value)) if is_key else value)
        yield f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        return
    if value is None or isinstance(value, (*_VALUES, enum.Enum, np.dtype)):
        yield f"{kind.__qualname__} {value!r}"
        return
    if isinstance(value, types.CodeType):
        yield f"code {value.co_code.hex()} {value.co_names} {value.co_varnames}"
        yield from _spell(value.co_consts, seen)
        return
    if isinstance(value, set | frozenset):
        yield from sorted("\n".join(_spell(entry, seen)) for entry in value)
        return
    if not isinstance(value, tuple):
        if id(value) in seen:
            yield f"again {seen[id(value)][0]}"
            return
        seen[id(value)] = len(seen), value
    yield f"{kind.__module__}.{kind.__qualname__} {getattr(value, '__qualname__', '')}"
    for part in _parts(value):
        yield from _spell(part, seen)
    yield "end"


def _parts(value: Any) -> list[Any]:
    """Returns what a value consists of."""
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        is_known = is_of_library(value.__module__)
        code = [] if is_known else [value.__code__, read_globals(value)]
        return [*code, _captured(value), value.__defaults__, value.__kwdefaults__]
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        return [value.__name__]
    if isinstance(value, type):
        own = {} if is_of_library(value.__module__) else vars(value)
        shown = (*_VALUES, types.FunctionType, staticmethod, classmethod, property)
        return [v for name, v in sorted(own.items()) if isinstance(v, shown) and name != "__doc__"]
    if isinstance(value, property):
        return [value.fget]
    held = getattr(value, "__dict__", None)
    if held or is_of_library(type(value).__module__) is False:
        return [type(value), dict(held or {})]
    return [re.sub(r"0x[0-9a-f]+", "", repr(value))]
