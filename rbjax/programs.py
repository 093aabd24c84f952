"""Plain functions as programs: what they capture becomes arguments, and equal programs are one.

A compiled function takes a pytree whose leaves are its arguments and whose structure is part of
the program. A plain function of a person's has no leaves: were it the structure, its first answer
would stay for ever, whatever became of the arrays that it reads, and they would never be let go.
So it is traced at each call: the arrays become leaves, and the structure is the traced program,
which is equal to another one if they do the same with those leaves. If in doubt, they differ.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core as jaxprs

from rbjax import captures, processes
from rbjax.captures import INSTEAD, Signature, Unbound, UnseenSignatureError
from rbjax.errors import a_type
from rbjax.typing import Array


class Trace(NamedTuple):
    """What tracing a function for one signature gave."""

    jaxpr: Any
    program: Program
    captured: list[Array]
    out: jax.ShapeDtypeStruct
    """What the function returns."""


@jax.tree_util.register_static
@dataclasses.dataclass(eq=False)
class PlainFunction(Unbound):
    """A function of a person's, and what tracing it gave in the call that this object is made for.

    Inside `jit` it is called as it is. On its way into a compiled function it is replaced by
    a `TracedFunction`, see `captures.Compiled`.
    """

    fn: Callable[..., Array]
    placement: Any = dataclasses.field(default=None, repr=False)
    """Where captured arrays are put: a device or a sharding; None: they stay where they are."""
    traces: dict[Signature, Trace] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(self, *args: Array) -> Array:
        """Returns what the function does of the arguments."""
        return self.fn(*args)

    def trace(self, signature: Signature) -> Trace:
        """Returns the function's trace for arguments of certain shapes and dtypes.

        Raises:
            ValueError: if it keeps what it computes, or draws, in an object instead of returning
                it.
        """
        if signature not in self.traces:
            args = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in signature)
            # In a person's own compiled function an object may hold values of that one's trace.
            is_held = captures.leaked(self.fn) is not None
            try:
                jaxpr, out = captures.trace(self.fn, *args)
            except Exception as error:
                # Of Flax, which is not imported here.
                if "is not a valid JAX type" in str(error):
                    raise ValueError(f"logits_fn must return logits (B, K): {error}") from None
                if type(error).__name__ != "TraceContextError":
                    raise
                raise ValueError(
                    "logits_fn changes its own state while it is traced, as batch statistics or "
                    f"dropout in training mode do; {INSTEAD}"
                ) from None
            if not hasattr(out, "dtype"):
                raise ValueError(f"logits_fn returns {a_type(out)}; it must return logits (B, K)")
            where = None if is_held else captures.leaked(self.fn)
            if where is not None:
                raise ValueError(f"logits_fn keeps a value of its trace in {where!r}; {INSTEAD}")
            captured = as_arguments(captured_by(jaxpr), self.placement)
            self.traces[signature] = Trace(jaxpr, Program(jaxpr), captured, out)
        return self.traces[signature]

    def bind(self, signatures: list[Signature]) -> TracedFunction:
        """Returns the function as a pytree that can be called with any of several signatures."""
        leaves: list[Array] = []
        numbers: dict[int, int] = {}
        programs = []
        for signature in signatures:
            trace = self.trace(signature)
            _LIVE[trace.program] = trace.jaxpr
            for array in trace.captured:
                if id(array) not in numbers:
                    numbers[id(array)] = len(leaves)
                    leaves.append(array)
            own = tuple(numbers[id(array)] for array in trace.captured)
            programs.append((signature, trace.program, own))
        return TracedFunction(tuple(leaves), tuple(programs))


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["captured"], meta_fields=["programs"]
)
@dataclasses.dataclass(frozen=True)
class TracedFunction:
    """A traced function: a pytree of the arrays that it captured."""

    captured: tuple[Array, ...]
    programs: tuple[tuple[Signature, Program, tuple[int, ...]], ...]
    """For each signature the program, and which of the arrays are its own."""

    def __call__(self, *args: Array) -> Array:
        """Returns what the function does of the arguments.

        Raises:
            UnseenSignatureError: if it was not traced for their shapes.
        """
        asked = signature_of(args)
        for signature, program, numbers in self.programs:
            if signature == asked:
                return program(iter([self.captured[i] for i in numbers]), args)
        raise UnseenSignatureError(asked)


def as_arguments(captured: list[Any], placement: Any) -> list[Array]:
    """Returns what a program captures as arrays of JAX, put where the placement says."""
    arrays = [jax.numpy.asarray(array) for array in captured]
    return arrays if placement is None else processes.put(arrays, placement)


def signature_of(args: tuple[Any, ...]) -> Signature:
    """Returns the shape and dtype of each argument."""
    return tuple((tuple(arg.shape), arg.dtype) for arg in args)


class Program:
    """A traced program without its arrays: equal to one that does the same with other arrays.

    It can be called while the trace is held elsewhere, that is in the call that it was made for.
    What stays in JAX's own memory as the key of compiled code holds nothing of a person's.
    """

    def __init__(self, jaxpr: Any) -> None:
        """Takes what `make_jaxpr` gave."""
        self._jaxpr = weakref.ref(jaxpr)
        self._key = _spell_program(jaxpr, with_values=False)
        self._hash = hash(self._key)

    def __eq__(self, other: object) -> bool:
        """Returns whether both do the same."""
        return isinstance(other, Program) and (self is other or self._key == other._key)

    def __hash__(self) -> int:
        """Returns a number that equal programs share."""
        return self._hash

    def __call__(self, captured: Iterator[Array], args: tuple[Array, ...]) -> Array:
        """Returns the one output of the program."""
        # `pmap` may trace again with the first of equal programs in place of this call's own.
        return _evaluate(self._jaxpr() or _LIVE[self], captured, args)[0]


_LIVE: weakref.WeakValueDictionary[Program, Any] = weakref.WeakValueDictionary()
"""The traces of programs that are being called; one of an equal program will do."""


def inner_program(eqn: Any) -> Any:
    """Returns the program that an equation calls, if it is a jitted function that captures arrays.

    Loops, branches and functions with derivatives of their own have theirs among their operands.
    """
    inner = eqn.params.get("jaxpr") if eqn.primitive.name in ("jit", "pjit") else None
    return inner if inner is not None and captured_by(inner) else None


def captured_by(jaxpr: Any) -> list[Any]:
    """Returns the arrays that a program and the jitted functions in it capture, in order."""
    captured = list(jaxpr.consts)
    for eqn in jaxpr.jaxpr.eqns:
        inner = inner_program(eqn)
        captured += [] if inner is None else captured_by(inner)
    return captured


def _evaluate(jaxpr: Any, captured: Iterator[Array], args: Any) -> list[Array]:
    """Returns the outputs of a program, given what it captures in the order of `captured_by`."""
    body = jaxpr.jaxpr
    values: dict[Any, Any] = {var: next(captured) for var in body.constvars}
    values.update(zip(body.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jaxprs.Literal) else values[atom]

    for eqn in body.eqns:
        operands, inner = [read(atom) for atom in eqn.invars], inner_program(eqn)
        if inner is not None:
            out = _evaluate(inner, captured, operands)
        else:
            with eqn.ctx.manager:
                out = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
        results: Any = out if inner is not None or eqn.primitive.multiple_results else [out]
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in body.outvars]


def digest(jaxpr: Any) -> str:
    """Returns 16 hexadecimal digits of all that a program does, the same in another process.

    Args:
        jaxpr: what is traced; the values that it captures belong to it.

    Raises:
        UnknownError: if there is something in it that is not understood, such as a callback.
    """
    text = "\n".join(_lines(_spell_program(jaxpr, with_values=True)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lines(spelled: Any) -> Iterator[str]:
    """Yields the text of what `_spell_program` gives, without identities."""
    if isinstance(spelled, tuple):
        yield "("
        for part in spelled:
            yield from _lines(part)
        yield ")"
    elif isinstance(spelled, types.CodeType):
        yield captures.digest(spelled)
    elif isinstance(spelled, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        yield f"{getattr(spelled, '__module__', '')}.{spelled.__name__}"
    elif isinstance(spelled, types.ModuleType | jaxprs.Primitive):
        yield getattr(spelled, "__name__", "") or str(spelled)
    elif hasattr(spelled, "weak_type"):
        yield f"{spelled} {spelled.weak_type}"
    else:
        yield captures.faithful(spelled)


def _spell_program(jaxpr: Any, *, with_values: bool) -> Hashable:
    """Returns all that a program does, as values that can be compared and hold no arrays.

    Args:
        jaxpr: what is traced.
        with_values: whether the captured arrays' values belong to it, not only their types.
    """
    body = getattr(jaxpr, "jaxpr", jaxpr)
    numbers: dict[Any, int] = {}

    def name(var: Any) -> Hashable:
        return numbers.setdefault(var, len(numbers)), var.aval

    def read(atom: Any) -> Hashable:
        is_literal = isinstance(atom, jaxprs.Literal)
        return (comparable(atom.val), atom.aval) if is_literal else numbers[atom]

    inputs = tuple(map(name, [*body.constvars, *body.invars]))
    equations = []
    for eqn in body.eqns:
        inner = inner_program(eqn)
        params = {k: v for k, v in eqn.params.items() if inner is None or k != "jaxpr"}
        lifted = None if inner is None else _spell_program(inner, with_values=with_values)
        operands = tuple(map(read, eqn.invars))
        context = (eqn.ctx.compute_type, eqn.ctx.threefry_partitionable, eqn.ctx.xla_metadata)
        rest = (tuple(map(name, eqn.outvars)), comparable(params), comparable(context))
        effects = tuple(sorted(map(str, eqn.effects)))
        equations.append((eqn.primitive, operands, lifted, *rest, effects))
    values = tuple(map(comparable, getattr(jaxpr, "consts", ()))) if with_values else ()
    return inputs, tuple(equations), tuple(map(read, body.outvars)), values


_PARTS = {
    "partial": ("func", "args", "keywords"),
    "WrappedFun": ("f", "transforms", "params", "in_type"),
    "custom_jvp": ("fun", "jvp", "nondiff_argnums", "symbolic_zeros"),
    "custom_vjp": ("fun", "fwd", "bwd", "nondiff_argnums", "symbolic_zeros", "optimize_remat"),
    "PjitFunction": ("__wrapped__",),
    # What says nothing of a rule for derivatives.
    "object": (),
    "DynamicJaxprTrace": (),
    "InitialResultPaths": (),
    "EqualStore": (),
    "Store": (),
    "UnspecifiedValue": (),
}
"""Objects that are equal if these parts of them are, by the name of their type."""
_IDENTITIES = (type, types.BuiltinFunctionType, types.ModuleType, np.ufunc, jax.sharding.Mesh)
"""What is compared by identity: it never changes."""


def comparable(value: Any, inside: tuple[int, ...] = ()) -> Hashable:
    """Returns a parameter of an equation as what can be compared and holds no array.

    A rule for derivatives is a function made anew in each trace: functions are equal that have the
    same code and whose captured values are. What is not understood is equal to nothing.
    """
    if id(value) in inside:
        return "inside", inside.index(id(value))
    spell = functools.partial(comparable, inside=(*inside, id(value)))
    kind = type(value)
    if hasattr(value, "eqns"):
        return _spell_program(value, with_values=True)
    if value is None or isinstance(value, bool | int | str | bytes | enum.Enum | np.dtype):
        return kind, value
    if isinstance(value, float | complex):
        return kind, repr(value)
    if isinstance(value, tuple | list):
        return kind, tuple(map(spell, value))
    if isinstance(value, dict):
        return kind, tuple((spell(name), spell(entry)) for name, entry in value.items())
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return kind, *_digest(value)
    if isinstance(value, _IDENTITIES):
        return value
    is_of_jax = kind.__module__.split(".")[0] in ("jax", "jaxlib")
    if kind.__name__ in _PARTS and (is_of_jax or kind in (functools.partial, object)):
        return kind, *(spell(getattr(value, part, None)) for part in _PARTS[kind.__name__])
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        if not cells and value.__module__.split(".")[0] == "jax":
            return value
        is_known = captures.is_of_library(value.__module__)
        read = [] if is_known else captures.read_globals(value)
        rest = (value.__defaults__, value.__kwdefaults__, cells, read)
        return value.__code__, *map(spell, rest)
    if is_of_jax and not callable(value) and kind.__hash__ is not None:
        return value
    return object()


def _digest(array: Any) -> tuple[Hashable, ...]:
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return str(array.dtype), *_digest(jax.random.key_data(array))
    values = np.asarray(array)
    return array.shape, str(array.dtype), hashlib.sha256(values.tobytes()).digest()
