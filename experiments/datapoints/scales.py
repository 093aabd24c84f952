"""What a scale of an experiment leaves out of its largest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cuts(plan: Any, full: Any, meanings: Mapping[str, str]) -> list[str]:
    """Returns a line for every field in which a plan differs from the largest one.

    Args:
        plan: a dataclass.
        full: the largest plan, of the same class; None in a field stands for all there are.
        meanings: field -> what it is.

    Returns:
        Lines such as "test images scored: 100 in place of all".
    """
    lines = []
    for field, meaning in meanings.items():
        here, there = getattr(plan, field), getattr(full, field)
        if here != there:
            whole = {"num_epochs": "the config's"}.get(field, "all") if there is None else there
            lines.append(f"{meaning}: {here} in place of {whole}")
    return lines
