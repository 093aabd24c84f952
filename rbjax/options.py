"""What a maker says of its options, and the one check of a value against that.

An option's type, range, unit and default stand in the maker's signature, its meaning in the
docstring's `Args` (of a class: in the text below the attribute):

    @checked
    def noisy(*, sigma: Annotated[float, Range(low=0.0, unit="pixels in [0, 1]")] = 0.1) -> Method:

`options_of(noisy)` reads them, for the config, `--help` and the contract suites; a call of `noisy`
refuses what is out of range.  Only the standard library is imported here.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import inspect
import itertools
import math
import numbers
import re
import textwrap
import types
import typing
from ast import AnnAssign, Constant, Expr, Name, parse
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from rbjax.errors import nearest, spelled

MOST = 10**9
"""The largest whole number where nothing else bounds it: twice as many still fit into int32."""
MOST_ENTRIES = 1000
"""Of a tuple."""
_LARGEST, _SMALLEST = 3.4e38, 1.2e-38
"""Of float32, in which smaller ones are 0 once they are in a compiled program."""


@dataclasses.dataclass(frozen=True)
class Range:
    """What numbers an option may have, in `Annotated[float, Range(...)]`; of a tuple, each entry.

    A number is finite and one that float32 holds in any case, a whole one at most `MOST`.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    """An open lower bound."""
    below: float | None = None
    """An open upper bound."""
    unit: str = ""
    norm: str = ""
    """The norm that a radius is measured in, where the maker has no option for it."""


PIXELS = "pixels in [0, 1]"
"""The unit of a radius, whose range depends on the norm."""
Epsilon = Annotated[float, Range(low=0.0, high=float(MOST), unit=PIXELS)]
"""Radius of a ball around an image; in l-inf at most 1."""
StepSize = Annotated[float, Range(above=0.0, high=float(MOST), unit=PIXELS)]
"""Length of one step."""
Count = Annotated[int, Range(low=1, high=MOST)]
"""How many there are of something that there has to be."""
Norm = Literal["linf", "l2", "l1"]
"""The norm of a ball."""
Share = Annotated[float, Range(low=0.0, high=1.0)]
"""A part of a whole."""
NotNegative = Annotated[float, Range(low=0.0)]
"""A size that may be nothing."""
Positive = Annotated[float, Range(above=0.0)]
"""A size."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a maker."""

    kind: type
    """int, float, bool, str, tuple; object for what only a library call can give."""
    default: Any
    meaning: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""
    norm: str = ""
    choices: tuple[Any, ...] | None = None
    optional: bool = False
    """Whether it may be None."""
    required: bool = False
    """Whether it has no default."""
    is_open: bool = False
    """Whether a library call may give a function in its place."""

    def bounds(self, number: int | float | None = None) -> str:
        """Returns the range as words, "between 0 and 1"; "" where there is none.

        Args:
            number: one that is out of it; only where it exceeds that, `MOST` is named.
        """
        low, high = self.low, self.high
        if high == MOST and (number is None or not number > MOST or number == math.inf):
            high = None
        if low is not None and high is not None:
            return f"between {low:.12g} and {high:.12g}"
        parts = [f"above {self.above:g}"] if self.above is not None else []
        parts += [f"at least {low:g}"] if low is not None else []
        parts += [f"at most {high:.12g}"] if high is not None else []
        parts += [f"below {self.below:g}"] if self.below is not None else []
        return " and ".join(parts)

    def check(self, value: Any) -> tuple[Any, str]:
        """Returns a value in the option's type, and what it must be if it is something else.

        Args:
            value: as a person or a program gives it: whole numbers count as numbers, NumPy's and
                JAX's as Python's, lists as tuples.

        Returns:
            The value, and "" or a text such as "between 0 and 1"; "" for a wrong choice, which
            `choice_of` words.
        """
        if value is None and self.optional:
            return None, ""
        if self.kind is object or (self.is_open and callable(value)):
            return value, ""
        if self.kind is tuple:
            if not isinstance(value, list | tuple):
                return value, self._wanted()
            if len(value) > MOST_ENTRIES:
                return value, f"a tuple of at most {MOST_ENTRIES} numbers"
            entries = tuple(map(_as_number, value))
            wrong = [entry for entry in entries if not self._contains(entry)]
            return (value, self._wanted(wrong[0])) if wrong else (entries, "")
        if self.kind in (int, float):
            number = _as_number(value)
            if number is None or not isinstance(number, int | self.kind):
                return value, self._wanted()
            if self._contains(number):
                return self.kind(number), ""
            is_held = self.kind is float and abs(number) <= _LARGEST
            return (float(number) if is_held else value), self._wanted(number)
        # NumPy's bool is none of Python's, and NumPy is not imported here.
        is_bool = type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")
        if type(value) is not self.kind and not (self.kind is bool and is_bool):
            if self.kind is bool:
                return value, "true or false"
            allowed = "" if self.choices is None else f" ({self.choice_of(str(value))})"
            return value, f"a name{allowed}" if allowed else "text"
        return self.kind(value), ""

    def choice_of(self, value: Any) -> str:
        """Returns "allowed: a, b; did you mean 'a'?" for a value that is no choice, or ""."""
        if self.choices is None or value is None or value in self.choices:
            return ""
        if self.is_open and (callable(value) or ":" in str(value)):  # package.module:maker
            return ""
        names = [str(choice) for choice in self.choices]
        return f"allowed: {', '.join(names)}{nearest(str(value), names)}"

    def _contains(self, number: int | float | None) -> bool:
        """Returns whether there is a number, one that a program holds and in the range."""
        return (
            number is not None
            and self._is_held(number)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _is_held(self, number: int | float) -> bool:
        """Returns whether a compiled program holds a number: int32, or float32 and not as 0."""
        if self.kind is int:
            return -(2**31) <= number < 2**31
        return number == 0 or _SMALLEST <= abs(number) <= _LARGEST  # neither for NaN

    def _wanted(self, number: int | float | None = None) -> str:
        """Returns what a number, or a tuple of them, must be instead."""
        bounds = self.bounds(number)
        if self.kind is int:
            if bounds.startswith("between"):
                bounds = f"at least {self.low} and at most {self.high}"
            elif number is not None and self.high is None and not self._is_held(number):
                bounds = f"{bounds} and at most {2**31 - 1}".removeprefix(" and ")
            return f"a whole number{' of ' if bounds else ''}{bounds}"
        if number is not None and not self._is_held(number):
            if number - number != 0:  # infinite, or NaN
                bounds = f"finite{' and ' if bounds else ''}{bounds}"
            elif self.high is None or abs(number) <= self.high:
                held = f"{_SMALLEST:g} to {_LARGEST:g} in size, as float32 has it"
                bounds = f"{bounds}, and {held}".removeprefix(", and ")
        if self.unit == PIXELS and number is not None and number > 1:
            bounds += " (in l-inf between 0 and 1)"
        if self.kind is tuple:
            return f"a tuple of numbers{' ' if bounds else ''}{bounds}"
        return "a number" if number is None else bounds


def options_of(maker: Callable[..., Any]) -> dict[str, Option]:
    """Returns the options of a maker, by name, in its order.

    Args:
        maker: a function, a dataclass such as a Flax module, or a `functools.partial` of one;
            what that settles is no option any more.

    Returns:
        Every parameter that can be given by name.
    """
    settled = maker.keywords if isinstance(maker, functools.partial) else {}
    source = maker.func if isinstance(maker, functools.partial) else maker
    meanings, hints = _meanings(source), {}
    try:
        hints = typing.get_type_hints(source, include_extras=True)
    except Exception:  # one that cannot be evaluated is left out
        names = getattr(inspect.unwrap(source), "__globals__", {})
        for name, text in getattr(source, "__annotations__", {}).items():
            with contextlib.suppress(Exception):
                hints[name] = eval(text, names) if isinstance(text, str) else text  # noqa: S307
    options = {}
    for name, parameter in inspect.signature(maker).parameters.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        fixed = name in settled or (inspect.isclass(source) and name in ("parent", "name"))
        if not variadic and not fixed and parameter.kind is not parameter.POSITIONAL_ONLY:
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            read: dict[str, Any] = _read(hints.get(name, Any), default)
            kind = list | tuple if read["kind"] is tuple else read["kind"]
            is_number = kind in (int, float) and _as_number(default) is not None
            if (
                default is not None
                and not is_number
                and (kind in (int, float) or not isinstance(default, kind))
            ):  # such as a dtype whose annotation allows a str
                read = {"kind": object}
            read |= {"meaning": meanings.get(name, ""), "required": required}
            options[name] = Option(default=default, **read)
    return options


cached_options = functools.cache(options_of)
"""The same, read once."""


def validate(options: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values in the types of their options.

    Args:
        options: of a maker.
        values: by name; those that are no options stay as they are.

    Raises:
        ValueError: naming the first that is out of range, and what is allowed.
    """
    checked = dict(values)
    for name, value in values.items():
        if name not in options or isinstance(value, inspect.Parameter):
            continue
        option = options[name]
        checked[name], mistake = option.check(value)
        if mistake:
            shown = checked[name] if isinstance(checked[name], float) else value
            raise ValueError(f"{name} is {spelled(shown)}; it must be {mistake}")
        allowed = "" if option.choices is None else option.choice_of(value)
        if allowed:
            raise ValueError(f"{name} {spelled(value)} is unknown; {allowed}")
    return checked


def checked[**P, R](maker: Callable[P, R]) -> Callable[P, R]:
    """Makes a maker check its options against their annotations; a decorator.

    Args:
        maker: a function whose options are annotated.

    Returns:
        The maker; it raises a ValueError that names the option, the value and what is allowed.
    """

    @functools.wraps(maker)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = bind(maker, *args, **kwargs)
        bound.arguments.update(validate(cached_options(maker), bound.arguments))
        return maker(*bound.args, **bound.kwargs)

    return call


def named[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function answer keywords that it does not have with those it has; a decorator."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bind(function, *args, **kwargs)
        return function(*args, **kwargs)

    return call


def bind(function: Callable[..., Any], *args: Any, **kwargs: Any) -> inspect.BoundArguments:
    """Returns a call's arguments by name.

    Raises:
        ValueError: for a call that the function does not take, with the nearest name.
    """
    signature = inspect.signature(function)
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        title, own = function.__name__, signature.parameters
        unknown = [name for name in kwargs if name not in own]
        if unknown:
            hint = f"has no option {unknown[0]!r}; allowed: {', '.join(own)}"
            raise ValueError(f"{title} {hint}{nearest(unknown[0], own)}") from None
        raise ValueError(f"{title}: {error}; its options: {', '.join(own)}, each by name") from None


def _read(hint: Any, default: Any) -> dict[str, Any]:
    """Returns what an annotation says; where it says nothing, what the default does."""
    if typing.get_origin(hint) is Annotated:
        base, *notes = typing.get_args(hint)
        read = _read(base, default)
        for note in notes:
            if isinstance(note, Range):
                read |= dataclasses.asdict(note)
        return read
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        reads = [_read(part, default) for part in parts]
        kinds = [read["kind"] for read in reads]
        first = min(kinds, key=(str, float, int, tuple, bool, object).index)
        chosen = reads[kinds.index(first)]
        optional = type(None) in typing.get_args(hint)
        is_open = first is not object and object in kinds
        return chosen | {"optional": optional, "is_open": is_open}
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        return {"kind": type(choices[0]), "choices": choices}
    if isinstance(hint, typing.TypeAliasType):
        return _read(hint.__value__, default)
    base = typing.get_origin(hint) or hint
    if base in (tuple, list, collections.abc.Sequence):
        # Of anything but numbers, such as devices, only a library call can give some.
        reads = [_read(entry, None) for entry in typing.get_args(hint) if entry is not Ellipsis]
        of_numbers = all(read["kind"] in (int, float) for read in reads)
        return {"kind": tuple if of_numbers else object}
    if base in (bool, int, float, str):
        return {"kind": base}
    known = type(default) in (bool, int, float, str, tuple)
    unsaid = hint is Any or isinstance(hint, typing.TypeVar)
    return {"kind": type(default) if known and unsaid else object, "optional": default is None}


def _meanings(source: Any) -> dict[str, str]:
    """Returns what the docstring's `Args`, or the texts below a class's attributes, say."""
    texts = {}
    if inspect.isclass(source):
        package = source.__module__.partition(".")[0]
        own = [part for part in source.__mro__ if part.__module__.partition(".")[0] == package]
        for part in reversed(own):  # what it inherits from its own package first
            try:
                body = parse(textwrap.dedent(inspect.getsource(part))).body[0]
            except (OSError, TypeError, SyntaxError):
                continue
            for pair in itertools.pairwise(getattr(body, "body", [])):
                match pair:
                    case AnnAssign(target=Name(id=name)), Expr(value=Constant(value=str(text))):
                        texts[name] = text
    else:
        doc = (inspect.getdoc(source) or "") + "\n"
        section = re.search(r"^Args:\n((?: +.*\n|\n)*)", doc, re.M)
        entries = textwrap.dedent(section[1] if section else "")
        for entry in re.split(r"^(?=\S)", entries, flags=re.M):
            name, colon, text = entry.partition(":")
            if colon:
                texts[name.strip().lstrip("*").partition(" ")[0]] = text
    return {
        name: " ".join(text.replace("`", "").split()).rstrip(".") for name, text in texts.items()
    }


def _as_number(value: Any) -> int | float | None:
    """Returns a Python number for a number, or for an array of no axes; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:  # a fraction
            return int(value.__trunc__())
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return _as_number(value.item())
    return None
