"""Tables of makers: the one way to make a thing by its name, whatever kind of thing it is.

A name is one of the table's, or `package.module:maker`, which is imported.  The options of a maker
are those of its signature (`rbjax.options`), but for what the caller of `create` supplies.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import operator
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rbjax import options as reading
from rbjax.errors import a_type, nearest
from rbjax.options import Option

__all__ = [
    "HOMES",
    "Table",
    "is_made",
    "is_path",
    "load",
    "lookup",
    "made_by",
    "nearest",
    "of_kind",
    "reason",
    "summary",
]

HOMES = {
    "attack": "rbjax.attacks:ATTACKS",
    "method": "rbjax.methods:METHODS",
    "model": "rbjax.models:MODELS",
    "loss": "rbjax.losses:LOSSES",
    "dataset": "rbjax.data.custom:CUSTOM",
    "imbalance profile": "rbjax.data.imbalance:PROFILES",
    "sampler": "rbjax.data.sampling:SAMPLERS",
    "perturbation": "rbjax.perturbations:PERTURBATIONS",
    "corruption": "rbjax.corruptions.table:CORRUPTIONS",
    "optimizer": "rbjax.training.optimizers:OPTIMIZERS",
    "schedule": "rbjax.training.schedules:SCHEDULES",
    "writer": "rbjax.training.writers:WRITERS",
}
"""Where the table of each kind is."""


class Table[T](dict[str, Callable[..., T]]):
    """Makers of one kind by name; an entry added to it counts like rbjax's own."""

    def __init__(
        self,
        kind: str,
        makers: Mapping[str, Callable[..., T]],
        *,
        supplied: Iterable[str] = (),
        positional: int = 0,
        derived: Iterable[str] = (),
        described: Mapping[str, Any] | None = None,
        makes: tuple[Any, str] = (object, "anything"),
    ) -> None:
        """Makes a table.

        Args:
            kind: what it holds, for messages: "attack", "model".
            makers: by name.
            supplied: parameters that the caller of `create` supplies to the makers that have them.
            positional: how many first parameters of a maker the caller supplies by position.
            derived: options without a default that the caller fills in where they are left out.
            described: things of this kind that need no maker, by name: datasets that are known.
            makes: the type of what is made, or a tuple of types, and what it is called.
        """
        super().__init__(makers)
        self.kind = kind
        self.supplied = tuple(supplied)
        self.positional = positional
        self.derived = tuple(derived)
        self.described = {} if described is None else described
        self.makes, self.called = makes

    def names(self) -> list[str]:
        """Returns the names of what is described and of what is made."""
        return [*self.described, *self]

    def find(self, name: str) -> Callable[..., T]:
        """Returns a maker by its name, or by `package.module:maker`.

        Raises:
            ValueError: if there is none, with the nearest name.
        """
        if name in self:
            return self[name]
        if is_path(name):
            return load(name, what=self.kind)
        return lookup({**self.described, **self}, name, what=self.kind)

    def options(self, name: str | Callable[..., Any]) -> dict[str, Option]:
        """Returns the options that a person gives to a maker.

        Raises:
            ValueError: as `find`.
        """
        maker = self.find(name) if isinstance(name, str) else name
        if not callable(maker):  # described, not made
            return {}
        positional = [
            parameter.name
            for parameter in inspect.signature(maker).parameters.values()
            if parameter.kind is not parameter.KEYWORD_ONLY
        ]
        known = reading.cached_options(maker).items()
        apart = (*positional[: self.positional], *self.supplied)
        return {option: said for option, said in known if option not in apart}

    def accepts(self, name: str, parameter: str) -> bool:
        """Returns whether a maker has a parameter that the caller supplies."""
        return parameter in inspect.signature(self.find(name)).parameters

    def create(
        self,
        name: str | Callable[..., Any],
        options: Mapping[str, Any],
        *args: Any,
        **supplied: Any,
    ) -> T:
        """Makes a thing.

        Args:
            name: of the table, or `package.module:maker`; or a maker.
            options: its maker's, by name.
            *args: what is supplied by position.
            **supplied: what is supplied by name; a maker gets what it has a parameter for.

        Returns:
            What the maker makes.

        Raises:
            ValueError: for an unknown name, an option that is unknown, missing or out of range, a
                maker outside that fails, or one that makes something of another kind.
        """
        if not isinstance(name, str) and not callable(name):
            raise ValueError(
                f"{self.kind} {name!r} is {a_type(name)}; it must be {self.called}, a name or a "
                "maker"
            )
        own = self.options(name)
        maker = self.find(name) if isinstance(name, str) else name
        title = name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)
        self.check(title, own, options)
        parameters = inspect.signature(maker).parameters
        accepts = {key: value for key, value in supplied.items() if key in parameters}
        values = reading.validate(own, options)
        try:
            inspect.signature(maker).bind(*args, **accepts, **values)
        except TypeError as error:  # of a maker outside, whose signature does not fit its kind
            raise ValueError(f"{self.kind} {title!r} cannot be made: {error}") from None
        try:
            made = maker(*args, **accepts, **values)
        except ValueError:
            raise
        except Exception as error:
            module = getattr(inspect.unwrap(maker), "__module__", None) or ""
            if module.partition(".")[0] == "rbjax":  # a fault of ours
                raise
            raise ValueError(f"{self.kind} {title!r}: making it failed: {reason(error)}") from error
        if not isinstance(made, self.makes):
            raise ValueError(
                f"{self.kind} {title!r} makes {a_type(made)}; it must make {self.called}"
            )
        return made

    def create_each(self, names: str, options: Mapping[str, Any]) -> list[T]:
        """Makes several things, whose names are joined by "+"; each takes the options that it has.

        Args:
            names: each as for `create`.
            options: of any of them, by name.

        Raises:
            ValueError: as `create`, and for an option that none of them has.
        """
        own = [self.options(name) for name in names.split("+")]
        known = list(dict.fromkeys(option for each in own for option in each))
        for option in options:
            if option not in known:
                allowed = f"{', '.join(known) or 'none'}{nearest(option, known)}"
                raise ValueError(
                    f"{self.kind} {names!r} has no option {option!r}; allowed: {allowed}"
                )
        return [
            self.create(name, {k: v for k, v in options.items() if k in each})
            for name, each in zip(names.split("+"), own, strict=True)
        ]

    def check(self, name: str, own: Mapping[str, Option], options: Iterable[str]) -> None:
        """Refuses options that a thing does not have, and the lack of one that it needs."""
        options = list(options)
        for option in options:
            if option not in own:
                allowed = f"{', '.join(own) or 'none'}{nearest(option, own)}"
                raise ValueError(
                    f"{self.kind} {name!r} has no option {option!r}; allowed: {allowed}"
                )
        for option, said in own.items():
            if said.required and option not in options:
                raise ValueError(f"{self.kind} {name!r} needs its option {option!r}")


def summary(maker: Any) -> str:
    """Returns what a maker says of itself in one line, without "Returns", and what it settles."""
    source = maker.func if isinstance(maker, functools.partial) else maker
    lines = (inspect.getdoc(source) or "").splitlines()
    first = lines[0] if lines else ""
    first = re.sub(r"^(Returns|Makes|Crafts) (.)", lambda match: match[2], first).rstrip(".")
    if isinstance(maker, functools.partial) and maker.keywords:
        settled = ", ".join(f"{name}={value}" for name, value in maker.keywords.items())
        return f"{first}, with {settled}"
    return first


def made_by(maker: Any) -> str:
    """Returns the name of what a maker says that it returns, "" where it says nothing."""
    source = maker.func if isinstance(maker, functools.partial) else maker
    if inspect.isclass(source):
        return source.__name__
    made = getattr(inspect.unwrap(source), "__annotations__", {}).get("return", "")
    return made if isinstance(made, str) else getattr(made, "__name__", str(made))


def of_kind(kind: str, *, imported: bool = True) -> Table[Any] | None:
    """Returns the table of a kind.

    Args:
        kind: a name in `HOMES`.
        imported: whether its module is imported; if not, the answer is None until another has.
    """
    module, _, attribute = lookup(HOMES, kind, what="kind of thing").partition(":")
    if imported:
        importlib.import_module(module)
    return getattr(sys.modules.get(module), attribute, None)


def is_made(thing: Callable[..., Any], num_arguments: int) -> bool:
    """Returns whether a function is a thing itself, called with so many arguments, or its maker."""
    try:
        inspect.signature(thing).bind(*[None] * num_arguments)
    except TypeError:
        return False
    except ValueError:  # it does not say what it is called with
        return True
    return True


def reason(error: Exception) -> str:
    """Returns what an error outside rbjax says, in one line."""
    return f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]


def is_path(name: str) -> bool:
    """Returns whether a name is that of a maker outside, `package.module:maker`."""
    return ":" in name


def load(path: str, *, what: str) -> Callable[..., Any]:
    """Imports a maker; modules in the current folder are found, as with `python -m`.

    Args:
        path: `package.module:maker`.
        what: the kind of thing, for messages.

    Raises:
        ValueError: if there is no such module or maker, or importing it fails.
    """
    module_name, _, attribute = path.partition(":")
    where = f"{what} {path!r}"
    if not (module_name and attribute) or module_name.startswith("."):
        raise ValueError(f"{where}: write it as package.module:maker")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{where}: importing {module_name} failed: {error}") from None
        package, _, _ = error.name.rpartition(".")
        prefix = f"{package}." if package else ""
        paths = getattr(sys.modules.get(package), "__path__", None) if package else [os.getcwd()]
        beside = [prefix + module.name for module in pkgutil.iter_modules(paths)]
        hint = nearest(error.name, beside)
        raise ValueError(f"{where}: there is no module {error.name!r}{hint}") from None
    except Exception as error:
        raise ValueError(f"{where}: importing {module_name} failed: {reason(error)}") from None
    try:
        maker = operator.attrgetter(attribute)(module)
    except AttributeError:
        public = [name for name in vars(module) if callable(vars(module)[name])]
        raise ValueError(
            f"{where}: module {module_name} has no {attribute!r}{nearest(attribute, public)}"
        ) from None
    if not callable(maker):
        raise ValueError(f"{where}: is {a_type(maker)}; it must be a function or a class")
    return maker


def lookup[T](table: Mapping[str, T], name: str, *, what: str) -> T:
    """Returns a table's entry.

    Args:
        table: names and entries.
        name: the name asked for.
        what: what the table holds, for the message: "attack", "model".

    Returns:
        `table[name]`.

    Raises:
        ValueError: if the name is unknown; it lists the known ones and the nearest.
    """
    if name in table:
        return table[name]
    raise ValueError(
        f"{what} {name!r} is unknown; allowed: {', '.join(table)}{nearest(name, table)}"
    )
