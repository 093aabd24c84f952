"""What pmap compiled goes with what it returned."""

import gc
import weakref

import jax
import jax.numpy as jnp

from rbjax.training.forgetting import let_go_with


def test_a_step_that_nobody_has_is_let_go():
    def step(x):
        return x + 1

    compiled, alive = let_go_with(jax.pmap(step), step), weakref.ref(step)
    compiled(jnp.zeros((1, 2)))
    del step
    gc.collect()
    assert alive() is not None
    del compiled
    gc.collect()
    assert alive() is None
