"""Functions that remember options and are equal when those are: what a compiled program is kept by.

`jax.jit` compiles once for each static argument that is not equal to an earlier one, and two
closures made from the same options are not equal, nor are two `functools.partial`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Closure[T]:
    """A function with some of its keywords set.

    `Closure(fn, **options)(*args)` is `fn(*args, **options)`. Closures of one function and equal
    options are equal and hash alike. The function stands at the top of a module, and the options
    are hashable: numbers, strings, functions, tuples.
    """

    fn: Callable[..., T]
    options: tuple[tuple[str, Any], ...]
    """Names and values, sorted by name."""

    def __init__(self, fn: Callable[..., T], /, **options: Any) -> None:
        object.__setattr__(self, "fn", fn)
        object.__setattr__(self, "options", tuple(sorted(options.items())))

    def __call__(self, *args: Any) -> T:
        """Returns what the function does of the arguments and the options."""
        return self.fn(*args, **dict(self.options))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options)
        return f"{getattr(self.fn, '__qualname__', self.fn)}({options})"
