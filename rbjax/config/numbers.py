"""Numbers as people write them: 0.1, 1e-3, 8/255."""

from __future__ import annotations

import math

from rbjax.errors import spelled


def parse_fraction(text: str | float) -> float:
    """Returns the number that a text such as "8/255" stands for.

    Args:
        text: a number, or two with a slash between them.

    Returns:
        A finite float.

    Raises:
        ValueError: if it is neither, divides by zero or is not finite.
    """
    message = f"{spelled(text)} is not a number: write 0.03, 1e-3 or 8/255"
    try:
        parts = [float(part) for part in str(text).split("/")]
    except ValueError:
        raise ValueError(message) from None
    if len(parts) > 2 or 0.0 in parts[1:]:
        raise ValueError(message)
    number = parts[0] / parts[1] if len(parts) == 2 else parts[0]
    if not all(map(math.isfinite, (*parts, number))):
        raise ValueError(message)
    return number
