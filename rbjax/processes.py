"""Several processes as one run: who starts them, and what all of them must know alike.

`jax.distributed` connects them before any backend starts. Process 0 alone works in the run
directory (finished blocks of journals apart, which whoever computed them writes) and prints.
`rbjax.watch` looks after them meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng, watch
from rbjax.errors import (
    FullDiskError,
    InUseError,
    LostProcessError,
    NotFiniteError,
    exit_code,
    spelled,
)

_LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")
_IN_POD = ("JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES_PATH")
"""What a pod has that is one of several; a pod of its own is in Kubernetes too."""
_SECONDS_TO_MEET = 300
_OF_THE_RUNTIME = re.compile(
    r"(UNKNOWN|UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|ABORTED|CANCELLED|FAILED_PRECONDITION)\b"
)
"""How errors begin that JAX raises where another process no longer answers."""
_ERRORS = (InUseError, FullDiskError, NotFiniteError, ValueError, OSError)
"""Kinds that process 0 tells the others of, the narrower first."""
_LEAST, _MOST = 2**11, 2**26
"""Bytes sent at once, in powers of two, so that few programs are compiled."""


class Place(NamedTuple):
    """Which process of a run this is."""

    address: str
    """HOST:PORT at which process 0 is met."""
    count: int
    index: int
    devices: tuple[int, ...] | None = None
    """Numbers of the GPUs of this machine that are this process's; None: as JAX has it."""


def parse(spec: str) -> Place | None:
    """Returns what `HOST:PORT,N,I` says; None of "auto" and "off".

    Raises:
        ValueError: for anything else.
    """
    if spec in ("auto", "off"):
        return None
    found = re.fullmatch(r"(\[[^][]+\]|[^\s:,]+):(\d{1,5}),(\d{1,6}),(\d{1,6})", spec)
    if found is not None:
        host, port, count, index = found[1], *map(int, found.groups()[1:])
        if 0 < port < 2**16 and 0 <= index < count:
            return Place(f"{host}:{port}", count, index)
    raise ValueError(
        f"distributed = {spec!r}: allowed are auto, off, and HOST:PORT,N,I: where process 0 is "
        "met, how many processes there are, and which this is, counted from 0"
    )


def started(environment: Mapping[str, str]) -> Place | None:
    """Returns what a launcher says in the environment; None: it says nothing.

    Raises:
        ValueError: if what it says is none.
    """
    said = [environment.get(name, "") for name in _LAUNCHER]
    if not all(said):
        return None
    address, port, count, index = said
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun itself listens there
        port = str(int(port) + 1) if port.isdecimal() else port
    host = f"[{address}]" if ":" in address else address
    try:
        place = parse(f"{host}:{port},{count},{index}")
    except ValueError:
        values = ", ".join(f"{k} = {spelled(environment[k])}" for k in _LAUNCHER)
        raise ValueError(
            f"{values}: these are not of one run; start it by a launcher, or give "
            "--config.distributed=off"
        ) from None
    assert place is not None
    shared = environment.get("LOCAL_WORLD_SIZE", "1") != "1"
    local = environment.get("LOCAL_RANK", "")
    return place._replace(devices=(int(local),) if shared and local.isdecimal() else None)


@contextlib.contextmanager
def joined(spec: str) -> Iterator[None]:
    """Makes this process one of a run, to the end of the program, and its body the run.

    Args:
        spec: "auto": as a launcher, or JAX's own detection, says, alone where none does; "off":
            alone; or `HOST:PORT,N,I`.

    Raises:
        ValueError: for a spec that is none, or if JAX has begun.
        LostProcessError: if another process cannot be reached any more.
    """
    parse(spec)
    if not jax.distributed.is_initialized():
        _join(spec)
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        yield
        return
    with watch.over(), contextlib.ExitStack() as stack:
        try:
            if not is_first():
                nothing = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nothing))
            yield
            watch.ended(0)
        except Exception as error:
            if _OF_THE_RUNTIME.match(str(error)):
                error = _lost(error)
            code = exit_code(error)
            watch.ended(1 if code is None else code, f"{type(error).__name__}: {error}")
            raise error from None
        except BaseException as error:
            watch.ended(1, type(error).__name__)
            raise


def _join(spec: str) -> None:
    place = parse(spec)
    if spec == "off":
        return
    options: dict[str, Any] = {"initialization_timeout": _SECONDS_TO_MEET}
    if spec == "auto":
        place = started(os.environ)
        if place is None and not _may_be_one_of_several(os.environ):
            return
    if place is not None:
        if place.count == 1:
            return
        options |= {
            "coordinator_address": place.address,
            "num_processes": place.count,
            "process_id": place.index,
        }
        if place.devices is not None:
            options["local_device_ids"] = place.devices
    # It would take SIGTERM for its own.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**options)
    except ValueError as error:
        if place is None and "should be defined" in str(error):
            return  # nobody knows of other processes
        raise ValueError(f"distributed = {spec!r}: {error}") from None
    except RuntimeError as error:
        if place is None and "before" in str(error):
            return  # JAX has begun alone, in a notebook for example
        where = f" at {place.address}" if place else ""
        raise ValueError(
            f"distributed = {spec!r}: the processes have not met{where}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from None


def _may_be_one_of_several(environment: Mapping[str, str]) -> bool:
    """Returns whether JAX is asked at all: a single task has no other, a usual pod neither."""
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        if name in environment:
            return environment[name] != "1"
    is_pod = "KUBERNETES_SERVICE_HOST" in environment
    return not is_pod or any(name in environment for name in _IN_POD)


def _lost(error: Exception) -> Exception:
    """Returns what to say of an error that JAX raises as another process is lost.

    If it is, the watch ends this process here.
    """
    watch.failed()
    said = " ".join(str(error).split())[:200]
    return LostProcessError(f"another process of this run does not answer: {said}")


def of_first[Value](function: Callable[[], Value]) -> Value:
    """Returns, in every process, what a function returns in process 0, where alone it is called.

    Args:
        function: returns what JSON has.

    Raises:
        Exception: what it raised there, of the same kind in every process.
    """
    if jax.process_count() == 1:
        return function()
    said: Any = None
    if jax.process_index() == 0:
        try:
            said = [None, function()]
        except _ERRORS as error:
            said = [next(i for i, k in enumerate(_ERRORS) if isinstance(error, k)), str(error)]
    kind, value = json.loads(broadcast(json.dumps(said).encode()))
    if kind is not None:
        raise _ERRORS[kind](value)
    return value


def broadcast(data: bytes) -> bytes:
    """Returns, in every process, the bytes that process 0 has."""
    from jax.experimental import multihost_utils

    size = np.asarray(multihost_utils.broadcast_one_to_all(np.uint32(len(data))))
    parts = []
    for start in range(0, int(size), _MOST):
        length = min(int(size) - start, _MOST)
        padded = max(_LEAST, 1 << (length - 1).bit_length())
        sent = data[start : start + length] if is_first() else b""
        own = np.frombuffer(sent.ljust(padded, b"\0"), np.uint8)
        told = multihost_utils.broadcast_one_to_all(own)
        parts.append(np.asarray(told).astype(np.uint8).tobytes()[:length])
    return b"".join(parts)


def arrays_of_first(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Returns, in every process, the arrays that process 0 has; those of others say the form."""
    own = [np.asarray(array) for array in arrays]
    if jax.process_count() == 1:
        return own
    told = []
    for array in own:
        data = broadcast(np.ascontiguousarray(array).tobytes() if array.size else b"")
        told.append(np.frombuffer(data, array.dtype).reshape(array.shape).copy())
    return told


def check_same(what: str, value: Any, *, instead: str) -> None:
    """Refuses processes that were asked for different things.

    Args:
        what: for the message.
        value: what JSON has.
        instead: what to do.

    Raises:
        ValueError: in every process, if one has another value than process 0.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    differs = of_first(lambda: value) != json.loads(json.dumps(value))
    others = np.flatnonzero(multihost_utils.process_allgather(np.int32(differs)))
    if len(others):
        raise ValueError(
            f"{what} of process {others[0]} is not that of process 0, and they are one run of "
            f"{jax.process_count()} processes; {instead}"
        )


def is_first() -> bool:
    """Returns whether this is the process that writes and prints."""
    return jax.process_index() == 0


def put(tree: Any, sharding: Any) -> Any:
    """Returns a pytree of arrays on devices, of which other processes may have some.

    They all call it then, with the same arrays.
    """
    if getattr(sharding, "is_fully_addressable", True):  # a device is
        return jax.device_put(tree, sharding)

    def leaf(x: Any) -> Any:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return prng.with_data(x, leaf(jax.random.key_data(x)))
        array = np.asarray(x)
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree.map(leaf, tree)
