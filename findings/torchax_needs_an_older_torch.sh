#!/usr/bin/env bash
# torchax converts a PyTorch module to a JAX function, and does so to the last digits of float32 where it
# can be imported. torchax 0.0.13, its newest release, cannot with torch 2.13.0 or later: a table of its
# module `amp` names `torch.ops.aten.prod.dim_Dimname`, an overload of the named tensors that torch took
# out. Nothing warns beforehand, since torchax declares no dependency on torch at all. With torch 2.12.1
# (seen under Python 3.12, jax 0.12.0.1) it works: `extract_jax` of a residual network with batch
# normalisation gives logits within 1.5e-8 of PyTorch's and gradients within 4.7e-10.
# torch 2.13.0 (CPU; 2.14.1 likewise), torchax 0.0.13, jax 0.10.2. Exits 0 while it is so, and 1 if that changes.
# Seen:
#   torchax requires torch: False
#   import torchax: AttributeError: The underlying op of 'aten.prod' has no overload name 'dim_Dimname'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 torchax==0.0.13 "jax[cpu]"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import requires, version

import torch

print("torch", torch.__version__, "torchax", version("torchax"), "jax", version("jax"))
declares = any(line.split(";")[0].strip().startswith("torch") for line in requires("torchax") or [])
print("  torchax requires torch:", declares)
try:
    import torchax
except AttributeError as error:
    print("  import torchax: AttributeError:", str(error).splitlines()[0])
    sys.exit(declares or "dim_Dimname" not in str(error))
print("  import torchax: works", torchax.__name__)
sys.exit(1)
PYTHON
