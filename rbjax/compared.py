"""What comparing two runs came to, class by class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

# What the numbers are made of is imported by `read` alone: --help should not wait for JAX.
from rbjax.sheet import Sheet

if TYPE_CHECKING:
    from pathlib import Path

    from rbjax.attacks import Setting
    from rbjax.rpr import Comparison

_CHANCE = 0.05
_SHOWN = 30
"""Classes of a table: of more, those that differ most."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """Two runs under the same attacks; `print` it for a table of each attack."""

    names: tuple[str, str]
    """Of the runs."""
    class_names: tuple[str, ...]
    settings: Mapping[str, Setting]
    """Of each attack."""
    whole: Mapping[str, Comparison]
    """Of all images: "clean", each attack, and "worst", under all of them."""
    classes: Mapping[str, list[Comparison]]
    """Of each class, likewise."""
    p_holm: Mapping[str, list[float]]
    """McNemar's p-values of the classes, corrected for their number; NaN for one without images."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Dataset and split, the runs' configs and steps, command, versions and device."""

    def verdict(self, label: str) -> str:
        """Returns which run is better under an attack beyond chance."""
        found = self.whole[label]
        if not found.p_value < _CHANCE:
            return f"no difference beyond chance (p = {found.p_value:.2g})"
        return f"{self.names[found.difference > 0]} is better (p = {found.p_value:.2g})"

    def sheet(self, label: str) -> Sheet:
        """Returns the table of an attack: a class a row."""
        classes, whole = self.classes[label], self.whole[label]
        sizes = [-1.0 if math.isnan(one.difference) else abs(one.difference) for one in classes]
        ranked = sorted(range(len(classes)), key=lambda i: -sizes[i])
        rows = sorted(ranked[:_SHOWN]) if len(ranked) > _SHOWN else range(len(classes))
        setting = f": {self.settings[label]}" if label in self.settings else ""
        left_out = f"; {len(classes) - _SHOWN} classes of smaller differences are not shown"
        return Sheet(
            f"{label}{setting}; {self.names[1]} less {self.names[0]}, in points, 95 % interval\n"
            f"{self.verdict(label)}{left_out if len(classes) > _SHOWN else ''}",
            {
                "class": [self.class_names[i] for i in rows],
                **_columns([classes[i] for i in rows]),
                "better": [self.better(label, i) for i in rows],
            },
            {"class": ["all"], **_columns([whole]), "better": [self.better(label)]},
        )

    def better(self, label: str, of: int | None = None) -> str:
        """Returns which run is better beyond chance, "first", "second" or "".

        Args:
            label: "clean", an attack, or "worst".
            of: a class; None: of all images.
        """
        found = self.whole[label] if of is None else self.classes[label][of]
        p_value = found.p_value if of is None else self.p_holm[label][of]
        if not p_value < _CHANCE:
            return ""
        return "second" if found.difference > 0 else "first"

    def __repr__(self) -> str:
        head = f"first: {self.names[0]}, second: {self.names[1]}; correctly classified in per cent"
        return "\n\n".join([head, *(repr(self.sheet(label)) for label in self.whole)])

    def rows(self) -> dict[str, list[Any]]:
        """Returns all numbers by name, a row for all images and each class of each attack."""
        found: dict[str, list[Any]] = {}
        for label, whole in self.whole.items():
            parts = [("all", whole, whole.p_value)]
            parts += zip(self.class_names, self.classes[label], self.p_holm[label], strict=True)
            said = str(self.settings[label]) if label in self.settings else ""
            for name, part, holm in parts:
                row = {"attack": label, "class": name, **part._asdict(), "p_holm": holm}
                row["setting"] = said
                for key, value in row.items():
                    found.setdefault(key, []).append(value)
        return found

    def as_json(self) -> dict[str, Any]:
        """Returns everything as JSON has it, for `read`."""
        return {
            "runs": self.names,
            "class_names": self.class_names,
            "settings": {label: setting._asdict() for label, setting in self.settings.items()},
            "whole": {
                label: one._asdict() | {"verdict": self.verdict(label)}
                for label, one in self.whole.items()
            },
            "classes": {label: [one._asdict() for one in of] for label, of in self.classes.items()},
            "p_holm": dict(self.p_holm),
            "order": list(self.whole),
            "about": dict(self.about),
        }


def read(path: Path) -> Compared:
    """Returns the comparison that `rbjax compare` wrote.

    Args:
        path: of its JSON.

    Raises:
        ValueError: if it is none, or damaged, or of an older version of rbjax.
    """
    from rbjax import atomic
    from rbjax.attacks.outcome import Setting
    from rbjax.rpr import Comparison

    def one(stored: Mapping[str, Any]) -> Comparison:
        # JSON has no NaN: of a class without images there is nothing.
        values: dict[str, Any] = {name: stored[name] for name in Comparison._fields}
        values |= {name: math.nan for name, value in values.items() if value is None}
        return Comparison(**values)

    try:
        stored = atomic.read_json(path)
        order = stored["order"]
        return Compared(
            names=tuple(stored["runs"]),
            class_names=tuple(stored["class_names"]),
            settings={label: Setting(**of) for label, of in stored["settings"].items()},
            whole={label: one(stored["whole"][label]) for label in order},
            classes={label: list(map(one, stored["classes"][label])) for label in order},
            p_holm={
                label: [math.nan if p is None else p for p in stored["p_holm"][label]]
                for label in order
            },
            about=stored["about"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: is damaged, or no comparison that this version of rbjax wrote "
            f"({type(error).__name__}: {error}); compare again"
        ) from None


def _columns(found: Sequence[Comparison]) -> dict[str, list[Any]]:
    names = ("count", "first", "second", "difference", "low", "high")
    return {name: [getattr(one, name) for one in found] for name in names}
