#!/usr/bin/env bash
# Antialiasing is for making images smaller. In PyTorch's `interpolate(mode="bicubic")` it also changes an
# image that is made larger: with it the kernel is Keys' with a = -0.5, without it with a = -0.75 (more
# overshoot at edges). `jax.image.resize(method="cubic")` and Pillow have a = -0.5 either way, so that an
# enlarged CIFAR image fed to a converted network agrees with PyTorch's only where PyTorch was told to
# antialias. Bilinear does not change.
# torch 2.13.0 (CPU), jax 0.9.2, pillow 12.0.0, numpy 2.4.6.
# Exits 0 while it is so, and 1 if that changes.
# Seen (a line one pixel wide, enlarged twice; its largest and smallest value):
#   bilinear: torch [0.75, 0.0] antialias [0.75, 0.0] jax [0.75, 0.0] Pillow [0.75, 0.0]
#   bicubic:  torch [0.8789, -0.1055] antialias [0.8672, -0.0703] jax [0.8672, -0.0703] Pillow [0.8672, -0.0703]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 jax==0.9.2 \
  pillow==12.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import jax
import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

for name in ("torch", "jax", "pillow", "numpy"):
    print(name, version(name))
line = np.zeros((8, 8), np.float32)
line[:, 4] = 1
seen = {}
for mode, pillow in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
    tensor = torch.tensor(line)[None, None]
    enlarged = {
        "torch": interpolate(tensor, scale_factor=2, mode=mode)[0, 0],
        "antialias": interpolate(tensor, scale_factor=2, mode=mode, antialias=True)[0, 0],
        "jax": jax.image.resize(line, (16, 16), mode, antialias=False),
        "Pillow": Image.fromarray(line).resize((16, 16), pillow),
    }
    seen[mode] = {
        name: [round(float(reduce(np.asarray(image)[8])), 4) for reduce in (np.max, np.min)]
        for name, image in enlarged.items()
    }
    print(f"  {mode + ':':9}", *(f"{name} {values}" for name, values in seen[mode].items()))
cubic, narrow = seen["bicubic"], [0.8672, -0.0703]
same = all(values == [0.75, 0.0] for values in seen["bilinear"].values())
same &= cubic["torch"] == [0.8789, -0.1055]
same &= all(cubic[name] == narrow for name in ("antialias", "jax", "Pillow"))
sys.exit(not same)
PYTHON
