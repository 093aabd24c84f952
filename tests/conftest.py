"""Eight simulated devices for every test, set before JAX starts; compiled programs are let go."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("MPLBACKEND", "Agg")

_MAPPINGS = Path("/proc/self/maps")
_MOST_MAPPINGS = 20_000
"""Linux allows a process 65,530; each program that XLA compiles on CPU holds about four, and one
too many aborts the process in the middle of a compilation."""


@pytest.fixture(autouse=True, scope="module")
def _let_programs_go() -> Iterator[None]:
    """Forgets what was compiled, after a module that leaves much of it."""
    yield
    if _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > _MOST_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()
