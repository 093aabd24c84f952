"""What this machine has, and what would go wrong on it: `rbjax doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import jax

from rbjax import platforms
from rbjax.console import printable
from rbjax.data import storage
from rbjax.data.card import found
from rbjax.data.datasets import DATASETS
from rbjax.private import keep_programs

_PACKAGES = ("rbjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_GPU_PLUGINS = platforms.PLUGINS["cuda"]
_PLUGINS = (*_GPU_PLUGINS, *platforms.PLUGINS["tpu"])
_OPTIONAL = {
    "tensorflow": ("prepare", "TFDS prepares a dataset with it; nothing else needs it"),
    "pandas": ("pandas", "`analysis.to_pandas`"),
    "ray": ("ray", "a grid over many machines"),
    "datasets": ("huggingface", "`dataset.name=huggingface`"),
    "wandb": ("wandb", "`writers.name=wandb`"),
    "mlflow": ("mlflow", "`writers.name=mlflow`"),
}
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "JAX_", "MPLBACKEND", "NPROC", "TFDS_", "XLA_", "RBJAX_")
"""Names of environment variables that change what happens, or how they begin."""
_SCARCE = 2 * 2**30
"""Bytes of disk below which checkpoints and reports may not fit."""


def main() -> int:
    """Prints what there is, then what would go wrong; returns 0."""
    cautions: list[str] = []
    lines = [*_versions(cautions), *_devices(cautions), *_room(cautions), *_data(cautions)]
    lines += _settings()
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:{width}}  {printable(text)}")
    print()
    for caution in cautions or ["nothing was found that would go wrong"]:
        print(f"- {printable(caution)}")
    return 0


def _versions(cautions: list[str]) -> list[tuple[str, str]]:
    known = {name: platforms.version(name) for name in _PACKAGES + _PLUGINS}
    own = [f"{name} {version}" for name, version in known.items() if version]
    lines = [("python", f"{platform.python_version()}, {sys.executable}"), ("versions", own[0])]
    lines += [("", text) for text in own[1:]]
    for plugin in _GPU_PLUGINS:
        if known[plugin] not in (None, known["jax"]):
            cautions.append(
                f"{plugin} {known[plugin]} does not fit jax {known['jax']}: the GPU is left aside; "
                f"pip install --upgrade 'rbjax[{plugin.split('-')[1]}]'"
            )
    for name, (extra, why) in _OPTIONAL.items():
        spec = importlib.util.find_spec(name)
        there = spec is not None and spec.origin is not None  # a folder of the name is no package
        missing = f"not installed ({why}): pip install 'rbjax[{extra}]'"
        version = platforms.version(name) or platforms.version(f"{name}-cpu") or "installed"
        lines.append((name, version if there else missing))
    return lines


def _devices(cautions: list[str]) -> list[tuple[str, str]]:
    text = "none"
    try:
        platforms.check()
    except ValueError as error:
        cautions.append(f"{error}")
    else:
        devices = jax.local_devices()
        kind = devices[0].device_kind
        memory = (devices[0].memory_stats() or {}).get("bytes_limit") if kind != "cpu" else None
        each = f", {memory / 2**30:.1f} GiB for JAX on each" if memory else ""
        text = f"{len(devices)} x {kind} ({jax.default_backend()}){each}"
        cautions += _unused()
    return [("devices", text), ("processors", f"{os.cpu_count()} cores, {platform.machine()}")]


def _unused() -> list[str]:
    """Returns what this machine has and JAX leaves aside, a line each."""
    if jax.default_backend() != "cpu":
        return []
    found = []
    asked, has_plugin = jax.config.jax_platforms, any(map(platforms.version, _GPU_PLUGINS))
    if card := platforms.gpu():
        why = f"this JAX has no plugin for it; {platforms.cuda(card.driver)}"
        if has_plugin:
            why = (
                f"JAX_PLATFORMS = {asked}" if asked else "JAX_PLATFORMS=cuda rbjax doctor says why"
            )
        found.append(f"{card.name} is not used: {why}")
    elif lacking := platforms.lacking():
        found.append(lacking)
    if any(Path("/dev").glob("accel*")):
        found.append("a TPU is not used: this JAX is without libtpu; pip install 'rbjax[tpu]'")
    return found


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
    return [*lines, ("program cache", _cache(cautions))]


def _cache(cautions: list[str]) -> str:
    """Returns where compiled programs are kept."""
    asked = jax.config.jax_compilation_cache_dir
    keep_programs()
    cache = jax.config.jax_compilation_cache_dir
    if asked and not cache:
        cautions.append(f"programs are not kept: another user can write {asked}; chmod 700 {asked}")
    if cache and "://" not in cache and not _is_writable(Path(cache)):
        cautions.append(
            f"JAX_COMPILATION_CACHE_DIR = {cache}: cannot be written, so every job compiles its "
            "programs again; give a folder of your own"
        )
    return (
        str(cache)
        if cache
        else "none: there is no home that can be written; set JAX_COMPILATION_CACHE_DIR"
    )


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _data(cautions: list[str]) -> list[tuple[str, str]]:
    folder = storage.default_data_dir()
    is_file = folder.exists() and not folder.is_dir()
    if is_file:
        cautions.append(f"TFDS_DATA_DIR = {folder}: is a file; give a folder, or unset it")
    here = [name for name, info in DATASETS.items() if not info.embedded and found(info)]
    state = " (a file)" if is_file else "" if folder.is_dir() else " (does not exist yet)"
    lines = [("data folder", f"{folder}{state}")]
    said = ", ".join(here) or "none; `rbjax data NAME --prepare` gets one, and digits need none"
    return [*lines, ("prepared", said)]


def _settings() -> list[tuple[str, str]]:
    given: dict[str, Any] = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLES)}
    said = [f"{name}={value}" for name, value in sorted(given.items())] or ["none of note"]
    return [("environment", said[0]), *(("", text) for text in said[1:])]
