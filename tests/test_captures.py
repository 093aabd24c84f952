"""What functions read beside their arguments: seen, told apart, and the same in every process."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import eval_jaxpr
from jax.tree_util import Partial

from rbjax import captures, models

IMAGES = jnp.ones((2, 4))
SCALE = 1.0
TABLE = {"scale": 1.0}


def scaled(images):
    return SCALE * images


def through_a_helper(images):
    return scaled(images) + TABLE["scale"]


def with_default(images, scale=2.0):
    return scale * images


def test_a_digest_changes_with_all_that_a_function_reads(monkeypatch):
    def closure(value):
        return lambda images: (lambda: value * images)()

    functions = [closure(1.0), closure(2.0), closure(np.ones(100_000)), with_default, scaled]
    ends = np.ones(100_000)
    ends[50_000] = 2.0
    digests = [captures.digest(fn) for fn in (*functions, closure(ends), Partial(scaled, 1.0))]
    assert len(set(digests)) == len(digests)
    assert captures.digest(closure(1.0)) == digests[0]
    before = captures.digest(through_a_helper)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    changed = captures.digest(through_a_helper)
    monkeypatch.setitem(TABLE, "scale", 3.0)
    assert len({before, changed, captures.digest(through_a_helper)}) == 3


def test_a_digest_is_the_same_in_every_process_and_changes_with_the_code(tmp_path):
    code = """
    import jax, jax.numpy as jnp, numpy as np
    from rbjax import attacks
    NAMES = {"a", "b", "c", "d"}
    class Held:
        def __init__(self): self.weights, self.names = jnp.ones(3), NAMES
        def attack(self, x): return [self.weights * y for y in x if y in {"p", "q", "r"}]
    held = Held()
    helper = lambda x: jnp.sin(x) + held.weights
    def made(x): return attacks.pgd, held.attack(x), helper(FACTOR * x)
    """
    ask = "from rbjax import captures; import one; print(captures.digest(one.made))"

    def asked(factor, seed):
        (tmp_path / "one.py").write_text(f"FACTOR = {factor}\n{textwrap.dedent(code)}")
        path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        environment = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
        run = [sys.executable, "-c", f"{path}{ask}"]
        repository = str(captures.Path(captures.__file__).parents[1])
        environment["PYTHONPATH"] = repository
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    first = asked(1.0, "1")
    assert len(first.strip()) == 16
    assert asked(1.0, "2") == first
    assert asked(2.0, "1") != first


class Holder:
    def __init__(self):
        self.scale = 1.0

    def logits(self, weights, images):
        return self.scale * images @ weights


def pure(weights, images):
    return jnp.tanh(images @ weights)


def from_table(weights, images):
    return TABLE["scale"] * images @ weights


def test_which_functions_read_state():
    value = 2.0
    net = models.create("mlp", num_classes=3, image_shape=(2, 2, 1), mean=[0], std=[1])
    stateful = [Holder().logits, from_table, lambda w, x: value * x @ w, scaled]
    stateful += [lambda w, x: from_table(w, x), jax.jit(from_table)]
    pures = [pure, net.apply, jax.jit(pure), lambda w, x: pure(w, x), jnp.dot]
    assert [captures.reads_state(fn) for fn in stateful] == [True] * len(stateful)
    assert [captures.reads_state(fn) for fn in pures] == [False] * len(pures)


@pytest.mark.parametrize("first", [1.0, jnp.ones(4)], ids=["number", "array"])
def test_a_trace_takes_nothing_that_an_inner_jitted_function_remembers(first):
    class Net:
        weights = first

    net = Net()
    predict = jax.jit(lambda images: images * net.weights)
    inside = jax.jit(lambda images: jax.lax.map(predict, images))

    def answer():
        traced, _ = captures.trace(lambda images: inside(images), IMAGES)
        return eval_jaxpr(traced.jaxpr, traced.consts, IMAGES)[0]

    np.testing.assert_array_equal(answer(), IMAGES)
    net.weights = 5 * first
    np.testing.assert_array_equal(answer(), 5 * IMAGES)


def test_constants_inside_loops_and_jitted_functions_are_found():
    weights = np.linspace(0, 1, 4, dtype=np.float32)
    jitted = jax.jit(lambda images: images * jnp.asarray(weights))
    for fn in (jitted, lambda x: jitted(x), lambda x: jax.lax.map(jitted, x)):
        traced, _ = captures.trace(fn, IMAGES)
        assert any(np.array_equal(c, weights) for c in captures.constants(traced))


def scale_by_global(images):
    return SCALE * images


def test_a_static_function_is_compiled_anew_when_what_it_reads_changes(monkeypatch):
    traces = []

    def run(fn, images):
        traces.append(fn)
        return fn(images)

    compiled = captures.static_first(run, functools.partial(jax.jit, static_argnums=0))
    for fn in (scale_by_global, jax.jit(scale_by_global)):
        before = len(traces)
        for scale in (1.0, 3.0, 1.0):
            monkeypatch.setitem(globals(), "SCALE", scale)
            np.testing.assert_array_equal(compiled(fn, IMAGES), scale * IMAGES)
        assert len(traces) == before + 2  # the third time it is the first again
