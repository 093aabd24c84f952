"""Operations of traced programs against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from rbjax import config as schema
from rbjax import cost
from rbjax.command_line import resolve
from rbjax.convolution import loop_safe
from rbjax.preflight import measure


def count(fn, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return cost.count_flops(jax.make_jaxpr(fn)(*arguments).jaxpr)


def test_a_matrix_product():
    assert count(jnp.matmul, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert count(jax.vmap(jnp.matmul), (4, 3, 5), (4, 5, 7)) == 4 * 2 * 3 * 5 * 7


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution(groups):
    def fn(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=numbers, feature_group_count=groups
        )

    inside = 6 // groups
    assert count(fn, (2, 8, 8, 6), (3, 3, inside, 4)) == 2 * (2 * 4 * 4 * 4) * (3 * 3 * inside)


def test_a_convolution_that_is_safe_in_loops_and_its_gradients():
    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def gradients(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(loop_safe(convolve)(x, k) ** 2), (0, 1))(x, kernel)

    once = 2 * (2 * 8 * 8 * 4) * (3 * 3 * 6)
    assert count(loop_safe(convolve), (2, 8, 8, 6), (3, 3, 6, 4)) == once
    assert count(gradients, (2, 8, 8, 6), (3, 3, 6, 4)) == 3 * once


def test_loops_count_as_often_as_they_run_and_the_dearest_branch_counts():
    def loop(x):
        return jax.lax.fori_loop(0, 10, lambda i, x: x @ x, x)

    def branch(x):
        return jax.lax.cond(jnp.sum(x) > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count(jax.jit(loop), (4, 4)) == 10 * 2 * 4**3
    assert count(branch, (4, 4)) == 2 * 2 * 4**3


def test_a_training_counts_its_steps(tmp_path):
    """256 inputs, 8 hidden, 10 classes: forward, and backward without the first layer's inputs."""
    config = schema.default()
    config.dataset.max_train_examples, config.dataset.max_test_examples = 64, 20
    config.batch_size, config.num_epochs, config.diagnostics = 16, 3, 0
    config.model.name, config.model.widths = "mlp", (8,)
    config.score.max_steps = 0
    layers = 256 * 8, 8 * 10
    forward = 2 * sum(layers)
    workdir = str(tmp_path / "unused")
    training, *others = measure(resolve(config, workdir), workdir).parts
    assert training.steps == 4 * 3
    assert training.flops == 12 * 16 * (2 * forward + 2 * layers[1])
    assert not any(part.flops for part in others)
