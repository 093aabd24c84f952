"""What this machine has, and what would go wrong on it: `rbjax doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from rbjax.console import printable
from rbjax.data import storage
from rbjax.data.card import found
from rbjax.data.datasets import DATASETS
from rbjax.private import keep_cache_private

_PACKAGES = ("rbjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu")
_OPTIONAL = {
    "tensorflow": ("prepare", "TFDS prepares a dataset with it; nothing else needs it"),
    "pandas": ("pandas", "`analysis.to_pandas`"),
    "ray": ("ray", "a grid over many machines"),
}
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "JAX_", "MPLBACKEND", "NPROC", "TFDS_", "XLA_", "RBJAX_")
"""Names of environment variables that change what happens, or how they begin."""
_SCARCE = 2 * 2**30
"""Bytes of disk below which checkpoints and reports may not fit."""


def main() -> int:
    """Prints what there is, then what would go wrong; returns 0."""
    cautions: list[str] = []
    lines = [*_versions(cautions), *_devices(cautions), *_room(cautions), *_data(), *_settings()]
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:{width}}  {printable(text)}")
    print()
    for caution in cautions or ["nothing was found that would go wrong"]:
        print(f"- {printable(caution)}")
    return 0


def _versions(cautions: list[str]) -> list[tuple[str, str]]:
    known = {name: _version(name) for name in _PACKAGES + _PLUGINS}
    own = [f"{name} {version}" for name, version in known.items() if version]
    lines = [("python", f"{platform.python_version()}, {sys.executable}"), ("versions", own[0])]
    lines += [("", text) for text in own[1:]]
    for plugin in _PLUGINS[:2]:
        if known[plugin] not in (None, known["jax"]):
            cautions.append(
                f"{plugin} {known[plugin]} does not fit jax {known['jax']}: the GPU is left aside; "
                f"pip install --upgrade 'rbjax[{plugin.split('-')[1]}]'"
            )
    for name, (extra, why) in _OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        missing = f"not installed ({why}): pip install 'rbjax[{extra}]'"
        version = _version(name) or _version(f"{name}-cpu") or "installed"
        lines.append((name, version if there else missing))
    return lines


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices(cautions: list[str]) -> list[tuple[str, str]]:
    devices = jax.local_devices()
    kind = devices[0].device_kind
    memory = (devices[0].memory_stats() or {}).get("bytes_limit") if kind != "cpu" else None
    each = f", {memory / 2**30:.1f} GiB for JAX on each" if memory else ""
    text = f"{len(devices)} x {kind} ({jax.default_backend()}){each}"
    if jax.default_backend() == "cpu" and (card := _gpu()):
        cautions.append(
            f"{card} is not used: this JAX has no plugin for it; pip install 'rbjax[cuda12]'"
        )
    if jax.default_backend() == "cpu" and any(Path("/dev").glob("accel*")):
        cautions.append("a TPU is not used: this JAX is without libtpu; pip install 'rbjax[tpu]'")
    return [("devices", text), ("processors", f"{os.cpu_count()} cores, {platform.machine()}")]


def _gpu() -> str | None:
    """Returns the name of an NVIDIA card, None where there is none to be found."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(  # noqa: S603  # nothing that anybody typed
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.splitlines()[0].strip() if said.stdout.strip() else None


def _room(cautions: list[str]) -> list[tuple[str, str]]:
    lines = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        lines.append(("memory", f"{memory / 2**30:.1f} GiB"))
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    lines.append(("disk", f"{free / 2**30:.1f} GiB free in {here}"))
    if free < _SCARCE:
        cautions.append(f"{here} has {free / 2**30:.1f} GiB left: checkpoints may not fit")
    if not os.access(here, os.W_OK):
        cautions.append(f"{here} cannot be written: give --workdir")
    keep_cache_private()
    cache = jax.config.jax_compilation_cache_dir
    said = str(cache) if cache else "none; set JAX_COMPILATION_CACHE_DIR to keep programs"
    return [*lines, ("program cache", said)]


def _data() -> list[tuple[str, str]]:
    folder = storage.default_data_dir()
    here = [name for name, info in DATASETS.items() if not info.embedded and found(info)]
    lines = [("data folder", f"{folder}{'' if folder.is_dir() else ' (does not exist yet)'}")]
    said = ", ".join(here) or "none; `rbjax data NAME --prepare` gets one, and digits need none"
    return [*lines, ("prepared", said)]


def _settings() -> list[tuple[str, str]]:
    given: dict[str, Any] = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)}
    said = [f"{name}={value}" for name, value in sorted(given.items())] or ["none of note"]
    return [("environment", said[0]), *(("", text) for text in said[1:])]
