"""What JAX computes on: whether it is there, and what to install where it is not."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from typing import NamedTuple

import jax

PLUGINS = {"cuda": ("jax-cuda12-plugin", "jax-cuda13-plugin"), "tpu": ("libtpu",)}
"""Packages that bring JAX a platform; any one of them does."""
_ALIASES = {"gpu": "cuda"}
_CUDA12, _CUDA13 = 525, 580
"""Major versions of NVIDIA's driver from which JAX's wheels of CUDA 12 and 13 run."""


def check() -> None:
    """Asks JAX for its devices, which every job needs.

    Several processes must have met before.

    Raises:
        ValueError: in one line, if there are none of the platform that JAX_PLATFORMS names.
    """
    try:
        jax.local_devices()
    except (AssertionError, RuntimeError) as error:  # JAX asserts where no GPU can be seen
        said = " ".join(str(error).split())
        if said and not said.startswith("Unable to initialize backend"):
            raise
        asked = jax.config.jax_platforms
        named = f"JAX_PLATFORMS = {asked}" if asked else "JAX"
        raise ValueError(
            lacking() or f"{named}: {said or 'no device of it can be seen on this machine'}"
        ) from None


def lacking() -> str:
    """Returns what to do about a platform that JAX_PLATFORMS names and JAX lacks; "" if none is."""
    asked = jax.config.jax_platforms or ""
    for name in asked.split(","):
        name = _ALIASES.get(name, name)
        if any(map(version, PLUGINS.get(name, ("jax",)))):
            continue
        card = gpu()
        how = cuda(card.driver if card else None) if name == "cuda" else "pip install 'rbjax[tpu]'"
        return (
            f"JAX_PLATFORMS = {asked}: this JAX has no plugin for {name}; {how}; or unset "
            "JAX_PLATFORMS, for what there is"
        )
    return ""


def version(package: str) -> str | None:
    """Returns the version of an installed package, None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Card(NamedTuple):
    """An NVIDIA card, as its driver speaks of it."""

    name: str
    driver: str
    """Its version, such as "580.65.06"."""


def gpu() -> Card | None:
    """Returns the first NVIDIA card, None where there is none to be found."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(  # noqa: S603  # nothing that anybody typed
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    name, comma, driver = said.stdout.partition("\n")[0].rpartition(",")
    return Card(name.strip(), driver.strip()) if comma else None


def cuda(driver: str | None) -> str:
    """Returns how a JAX is installed that computes on NVIDIA's cards.

    Args:
        driver: its version; None: not known.
    """
    number = (driver or "").partition(".")[0]
    if not number.isdecimal():
        return (
            f"pip install 'rbjax[cuda13]' with a driver from {_CUDA13} on, 'rbjax[cuda12]' from "
            f"{_CUDA12} on"
        )
    if int(number) < _CUDA12:
        return (
            f"its driver {driver} is too old: CUDA 12 needs {_CUDA12}, CUDA 13 {_CUDA13}; update "
            "it, then pip install 'rbjax[cuda13]'"
        )
    if int(number) < _CUDA13:
        return f"pip install 'rbjax[cuda12]' (its driver {driver} is too old for CUDA 13)"
    return f"pip install 'rbjax[cuda13]', or 'rbjax[cuda12]' (its driver {driver} runs both)"
