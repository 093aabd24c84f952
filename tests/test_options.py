"""What is read from a maker, and what a call of it refuses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import flax.linen as nn
import numpy as np
import optax
import pytest

from rbjax import options, tables
from rbjax.options import Count, Epsilon, Norm, Range, StepSize, checked


@checked
def noisy(  # noqa: D417
    *,
    epsilon: Epsilon,
    step_size: StepSize | None = None,
    num_steps: Count = 10,
    degree: Annotated[int, Range(low=1, high=5)] = 3,
    decay: Annotated[float, Range(low=0.0, below=1.0)] = 0.5,
    norm: Norm = "linf",
    loss: Literal["dlr", "kl"] | Callable[..., Any] = "dlr",
    flag: bool = False,
    milestones: Annotated[Sequence[float], Range(low=0.0)] | None = None,
    unsaid=2.0,
) -> tuple[Any, ...]:
    """Returns noise of a kind.

    Args:
        epsilon: radius of the ball,
            on one of `two` lines.
        loss: what is climbed: the difference.

    Returns:
        not: an option.
    """
    return epsilon, num_steps, loss, milestones


class Module(nn.Module):
    """A module."""

    width: Annotated[int, Range(low=1)] = 8
    """Units."""
    depth: int = 2

    def __call__(self, x):
        return x


def test_type_range_default_and_meaning_are_read():
    read = options.options_of(noisy)
    assert (read["epsilon"].kind, read["epsilon"].low, read["epsilon"].required) == (float, 0, True)
    assert read["epsilon"].unit == "pixels in [0, 1]"
    assert read["epsilon"].meaning == "radius of the ball, on one of two lines"
    assert (read["step_size"].above, read["step_size"].optional) == (0.0, True)
    assert (read["num_steps"].kind, read["num_steps"].default) == (int, 10)
    assert read["norm"].choices == ("linf", "l2", "l1")
    assert (read["loss"].choices, read["loss"].is_open) == (("dlr", "kl"), True)
    assert read["loss"].meaning == "what is climbed: the difference"
    assert (read["milestones"].kind, read["milestones"].low) == (tuple, 0.0)
    assert (read["unsaid"].kind, read["unsaid"].default) == (float, 2.0)
    assert "not" not in read
    assert tables.summary(noisy) == "noise of a kind"


def test_of_a_module_and_of_what_a_partial_leaves_open():
    read = options.options_of(Module)
    assert list(read) == ["width", "depth"]
    assert (read["width"].meaning, read["width"].low) == ("Units", 1)
    assert list(options.options_of(functools.partial(Module, width=3))) == ["depth"]


def test_a_sequence_of_numbers_is_an_option_and_one_of_anything_else_is_for_programs():
    def maker(*, sizes: tuple[int, ...] = (1,), names: Sequence[str] = (), devices: list[Any] = []):  # noqa: B006
        return sizes, names, devices

    kinds = {name: option.kind for name, option in options.options_of(maker).items()}
    assert kinds == {"sizes": tuple, "names": object, "devices": object}


def test_of_makers_that_others_wrote():
    read = options.options_of(optax.sgd)
    assert (read["momentum"].kind, read["momentum"].optional) == (float, True)
    assert read["nesterov"].kind is bool
    assert "scaling factor" in options.options_of(optax.sgd)["learning_rate"].meaning


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": -1}, "epsilon is -1.0; it must be at least 0"),
        ({"epsilon": float("nan")}, "epsilon is nan; it must be finite and at least 0"),
        ({"epsilon": "a"}, "epsilon is 'a'; it must be a number"),
        ({"epsilon": True}, "epsilon is True; it must be a number"),
        ({"epsilon": 1, "step_size": -1}, "step_size is -1.0; it must be above 0"),
        ({"epsilon": 1, "num_steps": 0}, "num_steps is 0; it must be a whole number of at least 1"),
        (
            {"epsilon": 1, "degree": 6},
            "degree is 6; it must be a whole number of at least 1 and at most 5",
        ),
        ({"epsilon": 1, "degree": 1.5}, "degree is 1.5; it must be a whole number"),
        ({"epsilon": 1, "decay": 1.0}, "decay is 1.0; it must be at least 0 and below 1"),
        ({"epsilon": 1, "norm": "l3"}, "norm 'l3' is unknown; allowed: linf, l2, l1; did you"),
        ({"epsilon": 1, "loss": 3}, "loss is 3; it must be a name"),
        ({"epsilon": 1, "flag": 1}, "flag is 1; it must be true or false"),
        ({"epsilon": 1, "milestones": (1, -1)}, "it must be a tuple of numbers at least 0"),
    ],
)
def test_a_call_refuses_what_is_out_of_range(given, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        noisy(**given)


def test_a_call_takes_numbers_of_numpy_functions_and_lists():
    of_numpy: dict[str, Any] = {"epsilon": np.float32(0.5), "num_steps": np.int64(3)}
    made = noisy(**of_numpy, loss=abs, milestones=[1, 2])
    assert made == (0.5, 3, abs, (1, 2))
    assert [type(value) for value in made[:2]] == [float, int]
