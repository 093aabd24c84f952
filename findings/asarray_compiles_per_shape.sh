#!/usr/bin/env bash
# `jnp.asarray(a)` and `jnp.array(a)` of a NumPy array compile a program for every new shape, also where
# nothing is cast; `jax.device_put(a)` gives the same array on the device, float64 and int64 narrowed as
# by the others, and compiles nothing. So putting the weights of a deep network, or blocks of many
# shapes, on the device by `asarray` pays for as many compilations. (rbjax's tests put what NumPy drew on
# the device by `device_put` since this was measured.)
# jax 0.12.0.1 (CPU), numpy 2.5.5. Exits 0 while it is so, and 1 if that changes. Seen: 10 programs for
# ten shapes of each dtype by asarray and array, 0 by device_put.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.12.0.1 jaxlib==0.12.0.1 numpy==2.5.5
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
)


def count(convert, dtype, first):
    compiled.clear()
    for size in range(first, first + 10):
        jax.block_until_ready(convert(np.ones(size, dtype)))
    return len(compiled)


ways = {"asarray": jnp.asarray, "array": jnp.array, "device_put": jax.device_put}
cases = [(name, dtype) for name in ways for dtype in ("float32", "float64", "int64")]
found = {case: count(ways[case[0]], case[1], 10 * i + 10) for i, case in enumerate(cases)}
print("jax", jax.__version__, "programs compiled for ten shapes")
for (name, dtype), number in found.items():
    print(f"  {name:10} {dtype:8} {number}")
narrowed = {str(way(np.ones(3)).dtype) for way in ways.values()}
print("float64 becomes", *narrowed)
sys.exit(found != {case: 0 if case[0] == "device_put" else 10 for case in cases} or len(narrowed) > 1)
PYTHON
