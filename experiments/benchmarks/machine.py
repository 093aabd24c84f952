"""What a benchmark's figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import jax


def describe() -> str:
    """Returns machine, versions and devices, a line each."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    names = ("jax", "jaxlib", "flax", "numpy")
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    device = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}"
    return (
        f"machine   {cpu}, {os.cpu_count()} cores, {platform.system()}\n"
        f"versions  Python {platform.python_version()} {versions}\n"
        f"backend   {device}, {time.strftime('%Y-%m-%d')}"
    )
