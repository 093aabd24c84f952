"""Set before JAX starts: eight simulated devices and one cache of compiled programs per session."""

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for flag, value in (
    ("xla_force_host_platform_device_count", 8),
    # Two thirds of the tests' time was compiling programs that run for milliseconds; unoptimised,
    # that takes half as long. Set it to 3 in XLA_FLAGS to test what users run.
    ("xla_backend_optimization_level", 0),
):
    if flag not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} --{flag}={value}".strip()
os.environ.setdefault("MPLBACKEND", "Agg")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # The workers of pytest-xdist and the processes that tests start inherit the folder.
    _folder = tempfile.mkdtemp(prefix="rbjax-compiled-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each file to one worker, in order: what its tests share is made and compiled once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
