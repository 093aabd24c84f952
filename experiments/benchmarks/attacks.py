"""How fast do rbjax's attacks run, beside torchattacks, foolbox and loops written by hand?

    python -m experiments.benchmarks.attacks [--torch-python=PATH] [--repeats=5] [--only=CNN]
    python -m experiments.benchmarks.attacks --autoattack --torch-python=PATH [--turns=2]

Without --autoattack: l-inf PGD from a random start, gradient steps a second (images x steps over
seconds), of a CNN (28x28x1, batch 256) and ResNet-18 (32x32x3, batch 32), by

    rbjax, Flax       `rbjax.attacks.pgd` on rbjax's model
    rbjax, plain      the same on a plain function of `lax.conv_general_dilated`
    foolbox, JAX      foolbox on the jitted plain function, where foolbox can be imported here

and, with a Python that has PyTorch, foolbox and torchattacks, on the same networks by torchattacks,
foolbox, and hand-written loops in both memory layouts, on a GPU also compiled. All take turns,
medians over the repeats, compilation apart. On a GPU the share of the rate at which it multiplies
large bfloat16 matrices stands beside each rate.

With --autoattack: seconds of the standard AutoAttack on 200 MNIST test images, `run_autoattack`
and torchattacks' classes with the same parameters on the same weights, in turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from experiments.benchmarks import loop, machine
from experiments.benchmarks.torch_peer import Peer
from experiments.parity import peers, weights
from rbjax import attacks, console, prng

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
ROOT = Path(__file__).resolve().parents[2]

Run = Callable[[], float]
"""One run of an attack -> its seconds."""


class AttackPeer(Peer):
    """A PyTorch process that attacks on request."""

    def __init__(self, python: str, threads: int | None) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "experiments.benchmarks.torch_attacks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ if threads is None else os.environ | {"OMP_NUM_THREADS": str(threads)},
        )


def timed(function: Callable, *arguments: Any, **options: Any) -> tuple[float, Any]:
    """Returns the seconds of a call, the device's work included, and what it returned."""
    began = time.perf_counter()
    result = jax.block_until_ready(function(*arguments, **options))
    return time.perf_counter() - began, result


def our_runs(cases: list[loop.Case]) -> dict[str, Run]:
    """Returns the ways that JAX goes on one network, in Flax and as a plain function."""
    runs: dict[str, Run] = {}
    key = prng.key(0)
    for case in cases:
        attack = attacks.pgd(epsilon=EPSILON, step_size=STEP_SIZE, num_steps=case.num_steps)
        logits_fn = Partial(case.apply, case.variables)
        batch = (logits_fn, key, case.images, jnp.arange(len(case.images)) % 10)
        kind = case.name.split(", ")[1]
        runs[f"rbjax, {kind}"] = lambda attack=attack, batch=batch: timed(attack, *batch)[0]
    if importlib.util.find_spec("foolbox") is not None:
        runs["foolbox, JAX"] = foolbox_run(cases[-1])
    return runs


def foolbox_run(case: loop.Case) -> Run:
    """Returns foolbox's PGD on a jitted function."""
    import foolbox  # pyright: ignore[reportMissingImports]

    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=case.num_steps)
    model = foolbox.JAXModel(jax.jit(Partial(case.apply, case.variables)), bounds=(0, 1))
    batch = (model, case.images, jnp.arange(len(case.images)) % 10)
    return lambda: timed(attack, *batch, epsilons=EPSILON)[0]


def their_runs(peer: Peer, network: str, num_steps: int) -> dict[str, Run]:
    """Returns the ways that PyTorch goes on one network."""
    request = {"network": network, "num_steps": num_steps}
    return {
        f"PyTorch, {way}": lambda way=way: peer.ask("pgd", way=way, **request)["seconds"]
        for way in peer.ask("versions")["ways"]
    }


def measure(runs: dict[str, Run], repeats: int) -> dict[str, tuple[float, float]]:
    """Returns each way's median seconds and what its first call took longer, all in turn."""
    first = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {name: (median, max(first[name] - median, 0)) for name, median in medians.items()}


def peak_flops() -> float:
    """Returns the FLOP/s of multiplying large bfloat16 matrices here, the best of ten runs."""
    size, repeats = 8192, 20
    matrix = jnp.full((size, size), 1 / size, jnp.bfloat16)
    multiply = jax.jit(lambda m: jax.lax.fori_loop(0, repeats, lambda _, x: x @ m, m))
    best = min(timed(multiply, matrix)[0] for _ in range(10))
    return 2 * size**3 * repeats / best


def flops_of_a_step(case: loop.Case) -> float:
    """Returns the floating-point operations of one image's gradient step, as XLA counts them."""
    labels = jnp.arange(len(case.images)) % 10
    step = jax.jit(loop.attack_step(case.apply))
    lowered = step.lower(case.images, case.images, labels, case.variables)
    return (lowered.cost_analysis() or {})["flops"] / len(case.images)


def rates(arguments: argparse.Namespace, peer: Peer | None) -> None:
    """Measures and prints the rates of PGD."""
    peak = None if jax.default_backend() == "cpu" else peak_flops()
    if peak:
        print(f"large bfloat16 matrices: {peak / 1e12:.0f} TFLOP/s")
    cases = [case for case in loop.make_cases() if arguments.only in case.name]
    for network in dict.fromkeys(case.name.split(", ")[0] for case in cases):
        chosen = [case for case in cases if case.name.startswith(network)]
        runs = our_runs(chosen)
        runs |= their_runs(peer, network, chosen[0].num_steps) if peer else {}
        measured = measure(runs, arguments.repeats)
        best = min(measured, key=lambda name: measured[name][0])
        work = len(chosen[0].images) * chosen[0].num_steps
        print(f"{network}: {len(chosen[0].images)} images, {chosen[0].num_steps} steps a call")
        print(f"    {'':28}{'steps/s':>10}{'of best':>9}{'first call':>12}")
        for name, (seconds, extra) in measured.items():
            rate, share = work / seconds, measured[best][0] / seconds
            of_peak = f"  {rate * flops_of_a_step(chosen[0]) / peak:.1%} of peak" if peak else ""
            print(f"    {name:28}{rate:>10,.0f}{share:>9.2f}{extra:>10.1f} s{of_peak}", flush=True)


def autoattack(arguments: argparse.Namespace, peer: Peer | None) -> None:
    """Measures and prints the seconds of the standard AutoAttack, both sides in turn."""
    name, number = "mnist_pgd", arguments.num_images
    epsilon, test = peers.EPSILON[name], peers.images(name, number)
    logits_fn, key = weights.load(name), prng.key(0)
    batch = (logits_fn, key, peers.pixels(test), jnp.asarray(test.labels))
    options = {"epsilon": epsilon, "example_ids": test.example_ids}
    first, result = timed(attacks.run_autoattack, *batch, **options)
    seconds: dict[str, list[float]] = {"rbjax": [], "torchattacks": []}
    theirs: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        peers.export_images(name, path, number)
        request = {"weights": str(weights.path(name)), "images": str(path), "epsilon": epsilon}
        for _ in range(arguments.turns):
            seconds["rbjax"].append(timed(attacks.run_autoattack, *batch, **options)[0])
            if peer is not None:
                answer = peer.ask("autoattack", seed=0, **request)
                seconds["torchattacks"].append(answer["seconds"])
                theirs = answer["robust"]
    print(f"standard AutoAttack, {name}, linf {epsilon:g}, {number} test images")
    for who, times in seconds.items():
        print(f"    {who:14}" + "".join(f"{time:9.1f} s" for time in times))
    extra = first - statistics.median(seconds["rbjax"])
    print(f"    rbjax's first call took {extra:.1f} s longer, which is compilation")
    print(f"    robust after each attack, rbjax        {result.accuracy_after}")
    if theirs:
        shares = {attack: float(np.mean(rows)) for attack, rows in theirs.items()}
        print(f"    robust after each attack, torchattacks {shares}")
        differing = int(np.sum(np.asarray(result.robust) != np.asarray(theirs["square"])))
        ratio = statistics.median(seconds["torchattacks"]) / statistics.median(seconds["rbjax"])
        print(f"    {differing} images differ; rbjax is {ratio:.2f} times as fast")


@console.steady()
def main() -> None:
    """Measures and prints."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of it
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torch-python", help="a Python with PyTorch, foolbox and torchattacks")
    parser.add_argument("--torch-threads", type=int, help="of PyTorch; its own choice")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each way")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--autoattack", action="store_true", help="time AutoAttack, not PGD")
    parser.add_argument("--turns", type=int, default=2, help="timings of AutoAttack, each side")
    parser.add_argument("--num-images", type=int, default=200, help="that AutoAttack attacks")
    arguments = parser.parse_args()
    print(machine.describe())
    task = autoattack if arguments.autoattack else rates
    if arguments.torch_python is None:
        print("PyTorch   skipped: no --torch-python given")
        task(arguments, None)
        return
    with AttackPeer(arguments.torch_python, arguments.torch_threads) as peer:
        print(f"peers     {peer.ask('versions')['versions']}\n")
        task(arguments, peer)


if __name__ == "__main__":
    main()
