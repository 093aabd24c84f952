"""Looking a name up in a table of makers, with the nearest name where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


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


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the known name nearest to a wrong one, or ""."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
