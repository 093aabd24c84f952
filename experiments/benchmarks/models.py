"""How fast is each architecture, beside the same one in PyTorch?

    python -m experiments.benchmarks.models --torch-python=PATH [--only=resnet] [--turns=7]

Images a second of the forward pass, of the gradient of the images (as in an attack) and of the
training step that `rbjax.train` compiles, each beside the same pass of the same weights in PyTorch,
channels last, on as many threads as there are cores; on a GPU compiled, both sides in bfloat16. The
two take turns of about a second; a rate is that of the median turn, and a ratio is ours over
PyTorch's, of the median turns and, in brackets, of the fastest. First logits and gradients of the
images are compared, so that both compute one function.

Our side's process keeps freed memory, as a job of `rbjax.main` does; with --keep-freed PyTorch's
does, too. Memory is the most that two training steps take, with weights, momentum and images; on
CPU how much the process grows. A share is that of the rate at which the faster side multiplies
large matrices in the same minutes. Operations are those of a forward pass of one image, 2 for each
product of two numbers; shares count each pass as direct convolutions.

On a machine that others use, --shared gives both sides one core and counts its CPU time: threads
that wait for each other say nothing there.

Each network is measured in a process of its own, and kept as a JSON file in --results, where it is
not measured again; the table is made of what lies there. For the PyTorch side:

    python -m venv torch-env && torch-env/bin/pip install torch==2.13.0 numpy pillow
    torch-env/bin/pip install --no-deps torchvision==0.28.0 robustbench==1.1.1
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks.model_passes import CASES, TASKS, Passes
from experiments.benchmarks.torch_peer import Peer
from rbjax import allocation, atomic, console

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "runs" / "benchmark_of_models"
_MIB = 2**20
_MOST_APART = 1e-4
_KEEP_FREED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_ARENA_MAX": "1"}
"""What `rbjax.allocation.keep_freed` does, as glibc reads it when a process starts."""


class ModelPeer(Peer):
    """A PyTorch process that makes passes on request."""

    def __init__(
        self, python: str, threads: int, dtype: str, clock: str, *, keep_freed: bool
    ) -> None:
        script = Path(__file__).with_name("torch_turns.py")
        self.process = subprocess.Popen(
            [python, str(script), str(threads), dtype, clock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (_KEEP_FREED if keep_freed else {}),
        )


def resident(field: str) -> int:
    """Returns a size of this process in bytes: of now, "VmRSS", or the largest, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def memory_of_training(passes: Passes, path: Path) -> int:
    """Returns the most memory of two training steps, in bytes, with all that they need."""
    trim()
    before = resident("VmRSS")
    passes.load(path)
    passes.begin()
    trim()
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(2):
        jax.block_until_ready(passes.call("train"))
    stats = jax.local_devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else resident("VmHWM") - before


def trim() -> None:
    """Gives free memory back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peak(size: int, dtype: str, clock: Callable[[], float]) -> float:
    """Returns the FLOP/s of one product of large matrices."""
    matrix = jnp.full((size, size), 1 / size, dtype)
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(matrix, matrix))
    began = clock()
    jax.block_until_ready(multiply(matrix, matrix))
    return 2 * size**3 / (clock() - began)


def differences(passes: Passes, folder: Path) -> dict[str, float]:
    """Returns how far both sides' numbers are apart, as a share of the largest."""
    passes.load(folder / "weights.pt")
    found = {}
    with np.load(folder / "said.npz") as said:
        for task, name in (("forward", "logits"), ("gradient", "gradient")):
            ours, theirs = np.asarray(passes.call(task)), said[name]
            found[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    passes.variables = None
    if found["logits"] > _MOST_APART:
        raise RuntimeError(f"the two sides are not one network: {found}")
    return found


def measure(name: str, peer: ModelPeer, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns what one network took on both sides."""
    case, is_cpu = CASES[name], jax.default_backend() == "cpu"
    dtype, batch = (
        "float32" if is_cpu else "bfloat16",
        max(1, round(case.batch * arguments.batches)),
    )
    clock = time.process_time if arguments.shared else time.perf_counter
    passes = Passes(case, batch, dtype)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "images.npz", images=passes.images, labels=passes.labels)
        made = peer.ask("make", folder=folder, name=name, num_classes=case.num_classes)
        apart = differences(passes, Path(folder))
        memory = {"ours": memory_of_training(passes, Path(folder) / "weights.pt")}
    memory["theirs"] = made["memory"]
    large = {"size": 2048 if is_cpu else 8192, "dtype": dtype}
    calls = {}
    for task in TASKS:  # the first turns warm up and tell how many calls make a second
        seconds = [max(passes.turn(task, 1, clock), ask_turn(peer, task, 1)) for _ in range(2)]
        calls[task] = max(1, round(arguments.seconds / seconds[-1]))
    seconds = {task: {"ours": [], "theirs": []} for task in TASKS}
    peaks = []
    for _ in range(arguments.turns):
        peaks += [peak(**large, clock=clock), peer.ask("peak", **large)["flops"]]
        for task, sides in seconds.items():
            sides["ours"].append(passes.turn(task, calls[task], clock) / calls[task])
            sides["theirs"].append(ask_turn(peer, task, calls[task]) / calls[task])
    return {
        "machine": machine.describe(),
        "torch": peer.ask("versions"),
        "clock": "CPU time of one core" if arguments.shared else "time",
        "batch": batch,
        "dtype": dtype,
        "parameters": passes.num_parameters,
        "flops": passes.flops,
        "compile_seconds": passes.compile_seconds,
        "compile_cpu_seconds": passes.compile_cpu_seconds,
        "differences": apart,
        "memory": memory,
        "peak": max(peaks),
        "seconds": seconds,
    }


def ask_turn(peer: ModelPeer, task: str, calls: int) -> float:
    """Returns the seconds of some calls of PyTorch's pass."""
    return peer.ask(task, calls=calls)["seconds"]


def ratios(found: dict[str, Any], task: str) -> tuple[float, float]:
    """Returns PyTorch's seconds over ours, of median turns and of the fastest."""
    ours, theirs = (found["seconds"][task][side] for side in ("ours", "theirs"))
    return statistics.median(theirs) / statistics.median(ours), min(theirs) / min(ours)


def row(name: str, found: dict[str, Any]) -> str:
    """Returns a line of the table."""
    cells = []
    for task in TASKS:
        rate = found["batch"] / statistics.median(found["seconds"][task]["ours"])
        median, least = ratios(found, task)
        share = rate * found["flops"][task] / found["peak"]
        cells.append(f"{rate:,.0f}, {median:.2f} ({least:.2f}), {share:.0%}")
    ours, theirs = (found["memory"][side] / _MIB for side in ("ours", "theirs"))
    cells.append(f"{ours:,.0f} / {theirs:,.0f}")
    cells.append(f"{_compile_seconds(found):.0f}")
    size = f"{found['parameters']:,} | {found['flops']['forward'] / 1e9:.3g}"
    return f"| {name} | {size} | {found['batch']} | {' | '.join(cells)} |"


def table(results: Path) -> str:
    """Returns all that was measured."""
    paths = {name: results / f"{_file_name(name)}.json" for name in CASES}
    found = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    lines = [
        "| network | parameters | GFLOP | batch | forward | gradient of images | training step "
        "| memory, MiB | compile, s |",
        f"|{'---|' * 9}",
        *(row(name, one) for name, one in found.items()),
        "",
    ]
    for task in TASKS:
        of_task = {name: ratios(one, task)[0] for name, one in found.items()}
        least = min(of_task, key=of_task.__getitem__)
        median = statistics.median(of_task.values())
        lines.append(f"- {task}: median ratio {median:.2f}, least {of_task[least]:.2f} ({least})")
    slowest = max(found, key=lambda name: _compile_seconds(found[name]))
    lines.append(f"- longest to compile: {_compile_seconds(found[slowest]):.0f} s ({slowest})")
    for name in ("logits", "gradient"):
        apart = max(one["differences"][name] for one in found.values())
        lines.append(f"- {name}: both sides apart by {apart:.1e} of the largest at most")
    any_of = next(iter(found.values()))
    torch = any_of["torch"]
    head = f"{any_of['machine']}\nPyTorch   {torch['torch']}, {torch['threads']} threads"
    head += f"\nclock     {any_of['clock']}"
    return "\n".join([f"```\n{head}\n```\n", *lines])


def _compile_seconds(found: dict[str, Any]) -> float:
    """Returns the seconds it took to compile the training step, by the clock of the rest."""
    return found["compile_seconds" if found["clock"] == "time" else "compile_cpu_seconds"]


def _file_name(name: str) -> str:
    return name.replace(", ", "_").lower()


@console.steady()
def main() -> None:
    """Measures what is not measured yet, each network in a process of its own; prints all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch-python", help="a Python with PyTorch; none: print the table only")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--keep-freed", action="store_true", help="PyTorch, too, keeps memory")
    parser.add_argument("--turns", type=int, default=7, help="timings of each pass")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--batches", type=float, default=1.0, help="multiplies each batch")
    parser.add_argument(
        "--shared", action="store_true", help="one core and its CPU time, on a busy machine"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    parser.add_argument("--case", choices=CASES, help="this network in this process")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of it
    if arguments.case is not None:
        allocation.keep_freed()
        if arguments.shared:  # the peer inherits it
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            arguments.threads = 1
        jax.config.update("jax_enable_compilation_cache", False)
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
        peer = ModelPeer(
            arguments.torch_python,
            arguments.threads,
            dtype,
            "cpu" if arguments.shared else "wall",
            keep_freed=arguments.keep_freed,
        )
        with peer:
            found = measure(arguments.case, peer, arguments)
        atomic.write_json(arguments.results / f"{_file_name(arguments.case)}.json", found)
        print(row(arguments.case, found), flush=True)
        return
    arguments.results.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        path = arguments.results / f"{_file_name(name)}.json"
        if arguments.torch_python and arguments.only in name and not path.exists():
            command = [sys.executable, "-m", "experiments.benchmarks.models", *sys.argv[1:]]
            subprocess.run([*command, f"--case={name}"], check=True, cwd=ROOT)
    print(table(arguments.results))


if __name__ == "__main__":
    main()
