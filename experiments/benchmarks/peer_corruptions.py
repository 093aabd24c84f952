"""Times imagecorruptions on request: the other side of `experiments.benchmarks.corruptions`.

    python -m experiments.benchmarks.peer_corruptions

Run in a Python of its own that has imagecorruptions and not rbjax. Reads requests, one JSON object
a line, and answers each with one line; nothing of the library is changed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import warnings
from typing import Any

import numpy as np

warnings.simplefilter("ignore")
import imagecorruptions  # noqa: E402  # pyright: ignore[reportMissingImports]


def versions() -> dict[str, Any]:
    """Returns what runs here."""
    packages = ("imagecorruptions", "numpy", "scipy", "scikit-image", "opencv-python-headless")
    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {"python": sys.version.split()[0], **found}


def textures() -> dict[str, Any]:
    """Returns the paths of the five photographs of ice that frost draws from."""
    folder = pathlib.Path(str(imagecorruptions.__file__)).parent / "frost"
    names = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
    return {"paths": [str(folder / name) for name in names]}


def corrupt(path: str, name: str, severity: int) -> dict[str, Any]:
    """Returns the seconds that one corruption of all images in a file takes, and its mean change.

    An error is returned by its first line, so that the rest can go on.
    """
    images = np.load(path)
    np.random.seed(0)  # noqa: NPY002 - what the library draws from
    try:
        began = time.perf_counter()
        corrupted = [
            np.uint8(imagecorruptions.corrupt(image, severity=severity, corruption_name=name))
            for image in images
        ]
        seconds = time.perf_counter() - began
    except Exception as error:  # whatever fails in the library is a result
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    change = np.abs(np.stack(corrupted).astype(float) - images).mean()
    return {"seconds": seconds, "change": float(change)}


def main() -> None:
    """Answers requests until there are no more; what the library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        request = json.loads(line)
        task = {"versions": versions, "textures": textures, "corrupt": corrupt}[request.pop("task")]
        print(json.dumps(task(**request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
