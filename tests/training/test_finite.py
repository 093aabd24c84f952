"""What a run goes on from, and is judged by, is finite."""

import numpy as np
import pytest

from rbjax.errors import NotFiniteError
from rbjax.training import finite
from rbjax.training.checkpoint import Checkpoints
from rbjax.training.method import MethodState
from rbjax.training.state import TrainState


def state(**changes) -> TrainState:
    weights = {"params": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    fields = {
        "step": np.int32(3),
        "variables": weights,
        "opt_state": {"least_loss": np.float32(np.inf), "count": np.int32(3)},
        "ema": None,
        "method_state": MethodState(replicated=np.zeros(2, np.float32), per_row=()),
    }
    return TrainState(**{**fields, **changes})


def with_bias(value) -> dict:
    return {"params": {"kernel": np.ones(2), "bias": np.asarray([0, value], np.float32)}}


BAD = [
    ({"variables": with_bias(np.nan)}, "variables.params.bias"),
    ({"variables": with_bias(-np.inf)}, "variables.params.bias"),
    ({"ema": with_bias(np.inf)}, "ema.params.bias"),
    ({"opt_state": {"least_loss": np.float32(np.nan)}}, "opt_state.least_loss"),
    (
        {"method_state": MethodState(replicated=np.float16(np.nan), per_row=())},
        "method_state.replicated",
    ),
]


@pytest.mark.parametrize(("changes", "name"), BAD)
def test_an_array_that_is_not_finite_is_named(tmp_path, changes, name):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(NotFiniteError, match=f"up to step 7 left {name} not finite; there was no"):
        finite.check_state(state(**changes), 7, checkpoints)
    with pytest.raises(NotFiniteError, match=f"checkpoint of step 7 holds {name} with values"):
        finite.check_stored(state(**changes), 7, "runs/a")


def test_what_is_finite_passes_and_an_optimizer_may_remember_infinity(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    finite.check_state(state(), 7, checkpoints)
    finite.check_state(state(variables=with_bias(3e38)), 7, checkpoints)
    finite.check_losses(True, 7, checkpoints)
    with pytest.raises(NotFiniteError, match="the loss or its gradient stopped being finite"):
        finite.check_losses(False, 7, checkpoints)
