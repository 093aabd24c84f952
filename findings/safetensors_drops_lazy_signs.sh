#!/usr/bin/env bash
# PyTorch conjugates complex tensors lazily: `.conj()` sets a bit, and `.conj().imag` is a float tensor
# with another bit that says "negated". `safetensors.torch.save_file` writes the bytes beneath the bits,
# so the file holds the unconjugated, or the unnegated, numbers, and nothing is said. `torch.save` keeps
# both bits and gives the right numbers back, and `.resolve_conj()` or `.resolve_neg()` before saving
# helps. (rbjax reads both formats; from torch's own it applies the bits.)
# torch 2.13.0 (CPU), safetensors 0.8.0, numpy 2.4.6. Exits 0 while it is so, and 1 if that changes.
# Seen:
#   conj:      [(1-2j)] by torch.save [(1-2j)] by safetensors [(1+2j)]
#   conj.imag: [-2.0] by torch.save [-2.0] by safetensors [2.0]
#   resolved:  [(1-2j)] by torch.save [(1-2j)] by safetensors [(1-2j)]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import safetensors
import torch
from safetensors.torch import load_file, save_file

folder = sys.argv[1]
print("torch", torch.__version__, "safetensors", safetensors.__version__)
z = torch.tensor([1 + 2j])
given = {"conj": z.conj(), "conj.imag": z.conj().imag, "resolved": z.conj().resolve_conj()}
same = {}
for name, tensor in given.items():
    torch.save({"x": tensor}, f"{folder}/x.pt")
    save_file({"x": tensor}, f"{folder}/x.safetensors")
    torch_back = torch.load(f"{folder}/x.pt")["x"]
    safe_back = load_file(f"{folder}/x.safetensors")["x"]
    same[name] = (torch.equal(torch_back, tensor), torch.equal(safe_back, tensor))
    print(
        f"  {name + ':':10} {tensor.tolist()} by torch.save {torch_back.tolist()} "
        f"by safetensors {safe_back.tolist()}"
    )
expected = {"conj": (True, False), "conj.imag": (True, False), "resolved": (True, True)}
sys.exit(same != expected)
PYTHON
