"""What the schema says of one field, and of a group of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from rbjax.config import catalog
from rbjax.config.catalog import Entry
from rbjax.options import Option
from rbjax.tables import is_path

Affects = Literal["weights", "evaluation", "scoring", "nothing"]


@dataclasses.dataclass(frozen=True)
class Field(Option):
    """One field of the config: an option of a maker, or one of the group's own."""

    affects: Affects | tuple[Affects, ...] | None = None
    """What comes out differently with another value; None: what its group says."""
    several: bool = False
    """Whether it may hold several names joined by "+"; the fields of each then apply."""
    words: tuple[str, ...] = ()
    """Of a selector, what it may say besides names of things, for none or many of them."""
    where: Callable[[Entry], bool] | None = None
    """Which named things it applies to; None: all."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Of choices, what is none of them but may be asked for, and how it is done."""

    def choice_of(self, value: Any) -> str:
        """As `Option.choice_of`, with how what is asked for is done, where another way is."""
        said = super().choice_of(value)
        return "; ".join(filter(None, (said, dict(self.elsewhere).get(str(value)))))


COMMANDS = (
    ("predict", "that is a command of its own: rbjax predict RUN FOLDER"),
    ("compare", "that is a command of its own: rbjax compare RUN OTHER"),
)
"""What is no task, and how it is done."""
_KEYWORDS = {"model": ("mean", "std"), "optimizer": ("schedule",), "corruption": ("quantize",)}
"""Keywords of the kinds' `create` that are neither fields of the config nor supplied to makers."""


class Group(NamedTuple):
    """A group of the config: fields of its own, and the options of what it names."""

    own: dict[str, Field]
    kind: str | None = None
    """The kind of thing that is named, one of `rbjax.tables.HOMES`; None: no thing is named."""
    selector: str = "name"
    """The field that names it."""
    affects: Affects = "weights"
    """What comes out differently with other values of its fields."""

    left_out: Mapping[str, str] = MappingProxyType({})
    """What stands for options that are left out, where that is not their maker's default."""

    def options(self, name: Any) -> dict[str, Field]:
        """Returns the options of a thing, or of several, in their order."""
        options: dict[str, Field] = {}
        for entry in self.entries(name):
            options |= {
                option: Field(**vars(said))
                for option, said in entry.options.items()
                if option not in options
            }
        return options

    def entries(self, name: Any) -> list[Entry]:
        """Returns what is known of the things that a value of the selector names."""
        if self.kind is None or not isinstance(name, str):
            return []
        several = self.own[self.selector].several
        entries = []
        for one in name.split("+") if several else [name]:
            entries.append(catalog.entry(self.kind, one))
            taken = [option for option in entries[-1].options if option in self.taken()]
            if is_path(one) and taken:
                raise ValueError(
                    f"{self.kind} {one!r} has an option {taken[0]!r}, and so has every "
                    f"{self.kind} in rbjax; rename its own"
                )
        return entries

    def taken(self) -> tuple[str, ...]:
        """Returns the names that an option of a maker outside may not have."""
        return ("name", *self.own, *_KEYWORDS.get(self.kind or "", ()))

    def applying(self, name: Any) -> dict[str, Field]:
        """Returns the fields that apply to a value of the selector, in the order of the config."""
        entries = self.entries(name)
        own = {
            key: field
            for key, field in self.own.items()
            if field.where is None or any(map(field.where, entries))
        }
        first = {key: field for key, field in own.items() if key == self.selector}
        return {**first, **self.options(name), **own}

    def every(self) -> dict[str, Field]:
        """Returns every field that the group can have, whatever it names."""
        fields = {key: field for key, field in self.own.items() if key == self.selector}
        for name in catalog.entries(self.kind) if self.kind else ():
            fields |= {k: f for k, f in self.options(name).items() if k not in fields}
        return fields | self.own
