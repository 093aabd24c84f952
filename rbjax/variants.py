"""Functions that differ in numbers alone, such as a corruption's severities, as one program.

A number in a traced function is part of its program, and each would be compiled for itself. Here
the numbers in which such functions differ become arguments; those that are equal stay constants,
of which a compiler makes more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core as jaxprs

from rbjax import captures
from rbjax.programs import (
    PlainFunction,
    Program,
    Trace,
    as_arguments,
    captured_by,
    comparable,
    inner_program,
    signature_of,
)
from rbjax.typing import Array


def variants(
    functions: Sequence[Callable[..., Array]],
    *args: Array | jax.ShapeDtypeStruct,
    placement: Any = None,
) -> list[PlainFunction]:
    """Returns functions, traced: those that differ in numbers alone are one program.

    Captured vectors are numbers, too. Shapes, and numbers inside loops, branches and functions with
    rules of their own, count as what a function does; so do matrices and images, whose products are
    up to twice as fast where they are constants.

    Args:
        functions: of the same arguments, each with one result.
        *args: the arguments, or their shapes and dtypes.
        placement: see `PlainFunction`.
    """
    traced = [captures.trace(fn, *args) for fn in functions]
    opened = [_with_numbers_captured(jaxpr) for jaxpr, _ in traced]
    alike: dict[Any, list[int]] = {}
    for place, jaxpr in enumerate(opened):
        matrices = [comparable(value) for value in captured_by(jaxpr) if value.ndim > 1]
        alike.setdefault((Program(jaxpr), *matrices), []).append(place)
    made = [PlainFunction(fn, placement) for fn in functions]
    for places in alike.values():
        captured = [captured_by(opened[place]) for place in places]
        columns = zip(*captured, strict=True)
        differ = [len(set(map(comparable, column))) > 1 for column in columns]
        shared = _with_constants_inserted(opened[places[0]], iter(differ))
        program = Program(shared)
        for place, values in zip(places, captured, strict=True):
            own = [value for value, is_own in zip(values, differ, strict=True) if is_own]
            trace = Trace(shared, program, as_arguments(own, placement), traced[place][1])
            made[place].traces[signature_of(args)] = trace
    return made


def _with_numbers_captured(jaxpr: Any) -> Any:
    """Returns a program that captures its numbers, and those of jitted functions in it."""
    body, numbers = jaxpr.jaxpr, {}

    def capture(atom: Any) -> Any:
        if not isinstance(atom, jaxprs.Literal):
            return atom
        aval: Any = atom.aval
        var = jaxprs.Var(aval)
        numbers[var] = np.asarray(atom.val, aval.dtype)
        return var

    equations = []
    for eqn in body.eqns:
        params = eqn.params
        if eqn.primitive.name in ("jit", "pjit"):
            params = {**params, "jaxpr": _with_numbers_captured(params["jaxpr"])}
        equations.append(eqn.replace(invars=list(map(capture, eqn.invars)), params=params))
    outvars = list(map(capture, body.outvars))
    body = body.replace(constvars=[*body.constvars, *numbers], eqns=equations, outvars=outvars)
    return jaxpr.replace(jaxpr=body, consts=[*jaxpr.consts, *numbers.values()])


def _with_constants_inserted(jaxpr: Any, is_captured: Iterator[bool]) -> Any:
    """Returns a program that captures some of its arrays, said in the order of `captured_by`."""
    body, captured, constants = jaxpr.jaxpr, {}, {}
    for var, value in zip(body.constvars, jaxpr.consts, strict=True):
        (captured if next(is_captured) else constants)[var] = value

    def insert(atom: Any) -> Any:
        if isinstance(atom, jaxprs.Literal) or atom not in constants:
            return atom
        return jaxprs.Literal(constants[atom], atom.aval)

    equations = []
    for eqn in body.eqns:
        inner, params = inner_program(eqn), eqn.params
        if inner is not None:
            params = {**params, "jaxpr": _with_constants_inserted(inner, is_captured)}
        equations.append(eqn.replace(invars=list(map(insert, eqn.invars)), params=params))
    outvars = list(map(insert, body.outvars))
    body = body.replace(constvars=list(captured), eqns=equations, outvars=outvars)
    return jaxpr.replace(jaxpr=body, consts=list(captured.values()))
