#!/usr/bin/env bash
# jax.pmap, when it traces again for another shape, hands the function the static pytree node of the
# first call that was equal to this one; jax.jit hands it the node of this call. A node whose
# equality leaves something out (a note, a weak reference, a handle of a live object) is stale there.
# jax 0.12.0.1, CPU. Exits 0 while it is so, and 1 if that changes.
# Seen:
#   jit ['first', 'second', 'third']
#   pmap ['first', 'first', 'first']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.12 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.12.0.1 jaxlib==0.12.0.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import dataclasses
import sys

import jax
import jax.numpy as jnp


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Tag:
    name: str
    note: str = dataclasses.field(compare=False)


def notes_seen(transform):
    seen = []

    def function(tag, x):
        seen.append(tag.note)
        return x + 1

    compiled = transform(function)
    for width, note in ((3, "first"), (4, "second"), (5, "third")):
        compiled(Tag("same", note), jnp.ones((1, width)))
    return seen


in_jit = notes_seen(jax.jit)
in_pmap = notes_seen(lambda function: jax.pmap(function, in_axes=(None, 0)))
print("jax", jax.__version__)
print("jit", in_jit)
print("pmap", in_pmap)
sys.exit(not (in_jit == ["first", "second", "third"] and in_pmap == ["first"] * 3))
PYTHON
