"""What a function reads beside its arguments, and compiled functions that take it as arguments.

Closures, globals, defaults and attributes are seen by nothing that knows a function by its name or
its identity: a journal, a compiled program, and what JAX remembers of a trace.
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
from collections.abc import Callable, Hashable, Iterator
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
Signature = tuple[tuple[tuple[int, ...], Any], ...]
"""The shape and dtype of each argument."""
INSTEAD = (
    "pass state as an argument: jax.tree_util.Partial(apply, weights) with a pure function "
    "apply(weights, images), or an NNX model after model.eval()"
)
_MOMENT = jax.make_user_context(0)
_moments = itertools.count(1)


def trace(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """Returns a function's program and the shapes of its results, as it is at this moment.

    What `jit`, `scan` or `checkpoint` remembers of a function is what that read when it was first
    called: of the function itself, and of such functions that it calls, nothing that is remembered
    is taken.

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
    files = [body.debug_info.func_filename for body in _bodies(jaxpr.jaxpr)]
    if all(file is not None and file.startswith(_JITTED_IN) for file in files):
        return jaxpr, out  # nothing but what belongs to a library, or to rbjax
    with _MOMENT(next(_moments)):
        return make()


def _bodies(jaxpr: Any) -> Iterator[Any]:
    """Yields the programs that one calls, and those that they call: jitted, loops, checkpoints."""
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(list(eqn.params.values())):
            body = getattr(inner, "jaxpr", inner)
            if hasattr(body, "eqns"):
                yield body
                yield from _bodies(body)


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
    codes, names = [fn.__code__], set()
    for code in codes:
        names.update(code.co_names)
        codes += [value for value in code.co_consts if isinstance(value, types.CodeType)]
    names = sorted(names)
    values = [(name, fn.__globals__[name]) for name in names if name in fn.__globals__]
    for module, value in list(values):
        if isinstance(value, types.ModuleType) and not is_of_library(value.__name__):
            read = [name for name in names if hasattr(value, name)]
            values += [(f"{module}.{name}", getattr(value, name)) for name in read]
    return values


def is_of_library(module: str | None) -> bool:
    """Returns whether a module belongs to a library, or to rbjax."""
    return (module or "").split(".")[0] in LIBRARIES


def reads_state(fn: Any) -> bool:
    """Returns whether a function reads what may change beside its arguments, as far as seen.

    Looked at are its closure, its globals and defaults, the attributes of its object, and the same
    of the functions and objects among them. Objects that refuse to be changed, and those of rbjax
    and the libraries, may hold numbers, but no arrays.
    """
    waiting, seen = [fn], {}
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        fn = getattr(value, "__wrapped__", value)
        owner = fn.__self__ if isinstance(fn, types.MethodType) else fn
        kind, fn = type(owner), getattr(fn, "__func__", fn)
        fixed, changeable = [], []
        if isinstance(owner, functools.partial):
            fixed += [owner.func, owner.args, owner.keywords]
        elif not isinstance(owner, type | types.ModuleType | types.FunctionType):
            is_frozen = dataclasses.is_dataclass(owner) and (
                kind.__setattr__ is not object.__setattr__
            )
            is_fixed = is_frozen or is_of_library(kind.__module__)
            (fixed if is_fixed else changeable).extend(getattr(owner, "__dict__", {}).values())
        if isinstance(fn, types.FunctionType):
            is_fixed = is_of_library(fn.__module__)
            read = [*_captured(fn), *([] if is_fixed else read_globals(fn))]
            (fixed if is_fixed else changeable).extend([held for _, held in read])
            fixed += [fn.__defaults__, fn.__kwdefaults__]
        values = [(leaf, _ARRAYS) for leaf in jax.tree.leaves(fixed)]
        values += [(leaf, (*_ARRAYS, *_VALUES)) for leaf in jax.tree.leaves(changeable)]
        for leaf, kinds in values:
            if isinstance(leaf, kinds):
                return True
            # Functions at the top of a library's module are not followed.
            is_top = isinstance(leaf, types.FunctionType) and leaf.__closure__ is None
            if not is_top or not is_of_library(leaf.__module__):
                waiting.append(leaf)
    return False


class UnseenSignatureError(Exception):
    """A traced function was called with other shapes than it was traced for."""

    def __init__(self, signature: Signature) -> None:
        """Keeps the signature."""
        super().__init__(f"not traced for {signature}")
        self.signature = signature


class Unbound:
    """A plain function whose captured arrays are no arguments yet: `programs.PlainFunction`."""

    def bind(self, signatures: list[Signature]) -> Any:
        """Returns the function as a pytree that can be called with any of several signatures."""
        raise NotImplementedError


def is_plain(value: Any) -> bool:
    """Returns whether a value is a plain function."""
    return isinstance(value, Unbound)


class Compiled:
    """A compiled function that takes plain functions anywhere among its arguments.

    They are traced in each call for the shapes that the compiled function calls them with: it is
    tried, and tells. Which shapes those are is remembered for arguments of the same shapes.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        """Takes a function that `jit` or `pmap` made, whose static arguments come first."""
        self.run = run
        self._signatures: dict[Hashable, list[Signature]] = {}

    def __call__(self, *args: Any) -> Any:
        """Returns what the compiled function does of the arguments."""
        leaves, structure = jax.tree.flatten(args, is_leaf=is_plain)
        if not any(map(is_plain, leaves)):
            return self.run(*args)
        if len(self._signatures) > 1000:
            self._signatures.clear()
        described = [
            (leaf.shape, leaf.dtype)
            if isinstance(leaf, _ARRAYS)
            else (type(leaf) if isinstance(leaf, Unbound | int | float | complex) else leaf)
            for leaf in leaves
        ]
        signatures = self._signatures.setdefault((structure, *described), [])
        while True:
            bound = [leaf.bind(signatures) if is_plain(leaf) else leaf for leaf in leaves]
            try:
                return self.run(*jax.tree.unflatten(structure, bound))
            except UnseenSignatureError as unseen:
                signatures.append(unseen.signature)
            except jax.errors.UnexpectedTracerError:
                raise ValueError(
                    f"logits_fn reads a value of a trace that is over; {INSTEAD}"
                ) from None


@dataclasses.dataclass(frozen=True)
class _Moment:
    """A static argument: it equals another one only if what it reads is the same, too."""

    value: Any
    state: Hashable

    @staticmethod
    def of(value: Any) -> _Moment:
        if not reads_state(value):
            return _Moment(value, None)
        try:
            return _Moment(value, digest(value))
        except UnknownError:
            return _Moment(value, object())  # equal to nothing: compiled each time


def static_first(function: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a compiled function whose first argument is static and may be a person's function.

    What that function reads, such as a global, may change between two calls; `jit` does not see it.

    Args:
        function: of a static argument, which is a function or consists of some, and others.
        compiled: compiles a function whose first argument is static.
    """

    @functools.wraps(function)
    def at_moment(moment: _Moment, *args: Any) -> Any:
        if moment.state is None:
            return function(moment.value, *args)
        with _MOMENT(next(_moments)):
            return function(moment.value, *args)

    run = compiled(at_moment)
    return lambda value, *args: run(_Moment.of(value), *args)


class UnknownError(ValueError):
    """What a value is cannot be told from another one of its type."""


def faithful(value: Any) -> str:
    """Returns what `repr` says of a value.

    Raises:
        UnknownError: if that is no more than where it is in memory.
    """
    text = repr(value)
    if type(value) is object or re.search(r"0x[0-9a-fA-F]{6}", text):
        kind = type(value)
        raise UnknownError(f"what a {kind.__module__}.{kind.__qualname__} holds is not seen")
    return text


def digest(value: Any) -> str:
    """Returns 16 hexadecimal digits of a function's code and of all that it reads.

    They are the same in another process.

    Raises:
        UnknownError: if it reads an object that holds more than Python sees.
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
    if hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType | type):
        held = getattr(value, "__dict__", {})  # of `custom_vjp`, the rules
        return [value.__wrapped__, *(v for k, v in held.items() if not k.startswith("__"))]
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
    kinds = type(value).__mro__[:-1]
    slots = [name for kind in kinds for name in _slots(kind) if hasattr(value, name)]
    held = {**getattr(value, "__dict__", {}), **{name: getattr(value, name) for name in slots}}
    if held or not is_of_library(type(value).__module__):
        for kind in kinds:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ".py"
            if kind.__module__ == "builtins" or not file.endswith(".py"):
                name = f"{kind.__module__}.{kind.__qualname__}"
                raise UnknownError(f"{name}, of which it reads one, is not written in Python")
        return [type(value), held]
    return [faithful(value)]


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in slots if name not in ("__dict__", "__weakref__"))
