"""Options that do nothing in the form of a method that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rbjax.errors import spelled
from rbjax.options import cached_options


def refuse_idle(maker: Callable[..., Any], needed: str, **options: Any) -> None:
    """Refuses options that are set and would do nothing.

    Args:
        maker: whose options they are; one that has its default is not set.
        needed: what they would act with, such as "augmix = true".
        **options: their values, by name.

    Raises:
        ValueError: naming the first one that is set, and its default.
    """
    for name, value in options.items():
        default = cached_options(maker)[name].default
        if value != default:
            raise ValueError(
                f"{name} is {spelled(value)}; it acts only with {needed}: leave it at "
                f"{spelled(default)}"
            )
