#!/usr/bin/env bash
# A TIFF of scans may say that 0 is white (WhiteIsZero, tag 262 = 0). Pillow and OpenCV invert such a
# file where it has 8 bits a pixel, so that a large value is bright, and leave it as it is stored where
# it has 16: the same picture comes out as its negative when only its depth changes, in both libraries
# alike, so that one does not give the other away. tifffile inverts neither. Nothing is said.
# (rbjax inverts both: one folder may hold scans of both depths.)
# pillow 13.0.0, opencv-python-headless 5.0.0.93, tifffile 2025.10.16, numpy 2.4.6.
# Exits 0 while it is so, and 1 if that changes.
# Seen:
#   8 bits:  stored [[0, 64, 255]] Pillow [[255, 191, 0]] OpenCV [[255, 191, 0]] tifffile [[0, 64, 255]]
#   16 bits: stored [[0, 16448, 65535]] Pillow [[0, 16448, 65535]] OpenCV [[0, 16448, 65535]] tifffile [[0, 16448, 65535]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
  pillow==13.0.0 opencv-python-headless==5.0.0.93 tifffile==2025.10.16 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version

import cv2
import numpy as np
import tifffile
from PIL import Image

folder = sys.argv[1]
for name in ("pillow", "opencv-python-headless", "tifffile", "numpy"):
    print(name, version(name))
inverted = {}
for bits, dtype in ((8, np.uint8), (16, np.uint16)):
    stored = np.array([[0, 64 * (257 if bits == 16 else 1), 2**bits - 1]], dtype)
    path = f"{folder}/{bits}.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite")
    read = {
        "Pillow": np.asarray(Image.open(path)),
        "OpenCV": cv2.imread(path, cv2.IMREAD_UNCHANGED),
        "tifffile": tifffile.imread(path),
    }
    told = " ".join(f"{name} {values.tolist()}" for name, values in read.items())
    print(f"  {bits} bits: stored {stored.tolist()} {told}")
    for name, values in read.items():
        inverted[name, bits] = bool(np.array_equal(values, (2**bits - 1) - stored))
expected = {(name, 8): True for name in ("Pillow", "OpenCV")}
expected |= {(name, 16): False for name in ("Pillow", "OpenCV")}
expected |= {("tifffile", 8): False, ("tifffile", 16): False}
sys.exit(inverted != expected)
PYTHON
