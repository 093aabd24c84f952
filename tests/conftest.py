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

if "device_count" not in (flags := os.environ.get("XLA_FLAGS", "")):
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
# Two thirds of the tests' time was compiling programs that run for milliseconds; unoptimised, that
# takes half as long, in the processes that tests start too. Modules marked `optimized` and
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
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


@pytest.fixture(autouse=True, scope="module")
def _optimize(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles as users do, in modules that are marked."""
    if request.node.get_closest_marker("optimized") is None:
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks first: they take longest, and would leave one worker alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("notebook") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each file to one worker, in order: what its tests share is made and compiled once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
