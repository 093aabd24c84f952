"""A pickle as a tree of what it says: nothing in it is imported, made or called.

A pickle is a program for a machine with a stack: it pushes values, names functions and classes, and
has them called.  `read` runs the pushing and writes the rest down.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, Protocol


class Global:
    """A function or a class, by name only."""

    def __init__(self, module: str, name: str) -> None:
        """Keeps the name, Python 2's modules under those of Python 3."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        self.name = f"{module}.{name}"


class Persistent:
    """What the file keeps outside the pickle, such as a storage, by what the pickle says of it."""

    def __init__(self, said: Any) -> None:
        """Keeps what is said."""
        self.said = said


class Mapping:
    """A dict: pairs in order, as a key here need not have a hash."""

    def __init__(self, items: list[tuple[Any, Any]]) -> None:
        """Keeps the pairs."""
        self.pairs = items


class Set:
    """A set or a frozenset, likewise."""

    def __init__(self, items: list[Any]) -> None:
        """Keeps the members."""
        self.items = items


class Call:
    """What would be called, with which arguments, and what the result would then be given."""

    def __init__(self, function: Any, args: Any, *, is_new: bool = False) -> None:
        """Keeps the function and its arguments; with `is_new` it is `function.__new__`."""
        self.function, self.args, self.is_new = function, args, is_new
        self.states: list[Any] = []
        self.items: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []


class Pickle:
    """What a pickle says."""

    def __init__(self) -> None:
        """Begins with nothing said."""
        self.root: Any = None
        self.calls: list[Call] = []
        """All of them, in order, also those whose result is thrown away."""
        self.persistents: list[Persistent] = []
        self.num_steps = 0
        """How long it is, in opcodes."""


class Stream(Protocol):
    """Bytes to read from: a file, `io.BytesIO`, `mmap.mmap`."""

    def read(self, n: int, /) -> bytes:
        """Returns the next `n` bytes, or what is left."""
        ...

    def readline(self) -> bytes:
        """Returns the bytes up to and with the next newline."""
        ...

    def tell(self) -> int:
        """Returns where it is."""
        ...


def read(stream: Stream) -> Pickle:
    """Reads one pickle of any protocol.

    Args:
        stream: at its beginning; left behind its end.

    Returns:
        What it says; `root` is built of None, bool, int, float, str, bytes, list, tuple and the
        classes above.

    Raises:
        ValueError: if it is no pickle, damaged or cut.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
            machine.said.num_steps += 1
            if opcode.name in _PUSHES:
                machine.stack.append(argument)
            elif opcode.name not in _SAYS_NOTHING:
                _STEPS[opcode.name](machine, argument)
        machine.said.root = machine.pop()
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        what = f"{error}" if isinstance(error, ValueError) else "it takes what was never given"
        raise ValueError(f"damaged pickle, before byte {stream.tell()}: {what[:100]}") from None
    return machine.said


class _Machine:
    """The stack, the marks in it, and the numbered values."""

    def __init__(self) -> None:
        self.said = Pickle()
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def call(self, function: Any, args: Any, *, is_new: bool = False) -> None:
        if not isinstance(args, tuple):
            raise ValueError("arguments that are no tuple")
        spelled = _NEW.get(function.name) if isinstance(function, Global) else None
        if spelled is not None and args:
            function, args, is_new = args[0], args[spelled:], True
        call = Call(function, args, is_new=is_new)
        self.said.calls.append(call)
        self.stack.append(call)


def _mark(machine: _Machine, _: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: _Machine, _: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.pop_mark()


def _duplicate(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _put(machine: _Machine, number: int) -> None:
    machine.memo[number] = machine.stack[-1]


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: _Machine, number: int) -> None:
    machine.stack.append(machine.memo[number])


def _constant(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        machine.stack.append(make())

    return step


def _tuple(length: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(length)]
        machine.stack.append(tuple(reversed(items)))

    return step


def _collected(make: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        items = machine.pop_mark()
        machine.stack.append(make(items))

    return step


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2], strict=True))


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, Mapping | Call):
        raise ValueError("pairs for what is no dict")
    target.pairs += _pairs(items)


def _add_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list | Set | Call):
        raise ValueError("items for what is no list")
    (target if isinstance(target, list) else target.items).extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    _add_items(machine, [item])


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(Global(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a name that is no text")
    machine.stack.append(Global(module, name))


def _extension(machine: _Machine, code: int) -> None:
    machine.stack.append(Global("copyreg", f"extension {code}"))


def _persistent(machine: _Machine, said: Any) -> None:
    machine.said.persistents.append(Persistent(said))
    machine.stack.append(machine.said.persistents[-1])


def _reduce(machine: _Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.call(function, args)


def _new(machine: _Machine, _: Any) -> None:
    args, function = machine.pop(), machine.pop()
    machine.call(function, args, is_new=True)


def _new_with_keywords(machine: _Machine, _: Any) -> None:
    machine.pop()
    _new(machine, _)


def _make(machine: _Machine, argument: str | None) -> None:
    items = machine.pop_mark()
    if argument is None:
        function, items = items[0], items[1:]
    else:
        _global(machine, argument)
        function = machine.pop()
    machine.call(function, tuple(items))


def _build(machine: _Machine, _: Any) -> None:
    state, target = machine.pop(), machine.stack[-1]
    if isinstance(target, Call):
        target.states.append(state)
    elif isinstance(target, Global | Persistent):
        machine.said.calls.append(Call(target, ()))
    else:
        raise ValueError("a state for what can have none")


def _refused(machine: _Machine, _: Any) -> None:
    raise ValueError("it needs buffers that are not in the file")


_PUSHES = frozenset(
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg is not None and len(opcode.stack_after) == 1 and not opcode.stack_before
) - {"GET", "BINGET", "LONG_BINGET", "GLOBAL", "PERSID", "EXT1", "EXT2", "EXT4"}
"""Those that push the argument that they have in them."""
_NEW = {"copyreg._reconstructor": 2, "copyreg.__newobj__": 1}
"""How protocols 0 and 1 spell `__new__` -> where its arguments begin, after the class."""
_SAYS_NOTHING = frozenset(("PROTO", "FRAME", "STOP", "READONLY_BUFFER"))

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_DICT": _constant(lambda: Mapping([])),
    "EMPTY_SET": _constant(lambda: Set([])),
    "LIST": _collected(list),
    "TUPLE": _collected(tuple),
    "DICT": _collected(lambda items: Mapping(_pairs(items))),
    "FROZENSET": _collected(Set),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _duplicate,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: _set_items(machine, machine.pop_mark()),
    "APPEND": _append,
    "APPENDS": lambda machine, _: _add_items(machine, machine.pop_mark()),
    "ADDITEMS": lambda machine, _: _add_items(machine, machine.pop_mark()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "EXT1": _extension,
    "EXT2": _extension,
    "EXT4": _extension,
    "PERSID": _persistent,
    "BINPERSID": lambda machine, _: _persistent(machine, machine.pop()),
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _make,
    "OBJ": _make,
    "BUILD": _build,
    "NEXT_BUFFER": _refused,
}
