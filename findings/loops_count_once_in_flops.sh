#!/usr/bin/env bash
# JAX has two ways to count a program's floating-point operations beforehand, and both count the body
# of a loop once, however often it runs: the compiled program's cost_analysis(), and the roofline
# module, which reads the traced program, where the number of turns of a scan is written. A training
# step with ten attack steps in a fori_loop is thus given the operations of one attack step; unrolled
# in Python it is given those of ten. (rbjax.cost walks the traced program and multiplies.)
# jax 0.12.0.1, CPU. Exits 0 while it is so, and 1 if that changes.
# Seen, 2 * 8 * 64 * 64 = 65,536 operations a turn:
#   turns 1: cost_analysis 65536, roofline 65536
#   turns 10, scan: cost_analysis 65538, roofline 65536
#   turns 10, fori_loop: cost_analysis 65538, roofline 65536
#   turns 10, unrolled: cost_analysis 655360, roofline 655360
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.12 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.12.0.1 jaxlib==0.12.0.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
from jax.experimental import roofline

WEIGHTS = jnp.ones((64, 64))
SHAPE = jax.ShapeDtypeStruct((8, 64), jnp.float32)
ONE = 2 * 8 * 64 * 64


def unrolled(x, turns=10):
    for _ in range(turns):
        x = x @ WEIGHTS
    return x


programs = {
    "turns 1": lambda x: x @ WEIGHTS,
    "turns 10, scan": lambda x: jax.lax.scan(lambda x, _: (x @ WEIGHTS, None), x, length=10)[0],
    "turns 10, fori_loop": lambda x: jax.lax.fori_loop(0, 10, lambda i, x: x @ WEIGHTS, x),
    "turns 10, unrolled": unrolled,
}
print("jax", jax.__version__)
counts = {}
for name, program in programs.items():
    compiled = jax.jit(program).lower(SHAPE).compile().cost_analysis()["flops"]
    _, estimate = roofline.roofline(program)(SHAPE)
    counts[name] = (round(compiled / ONE), round(estimate.unfused_flops / ONE))
    print(f"  {name}: cost_analysis {compiled:.0f}, roofline {estimate.unfused_flops}")
expected = {name: (10, 10) if "unrolled" in name else (1, 1) for name in programs}
sys.exit(counts != expected)
PYTHON
