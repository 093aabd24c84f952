r"""Measures how far attacks end from the exact minimum, and writes results.md beside this.

    python -m experiments.parity.exact [--only=NAME ...] [--peers=PYTHON]

Ours are measured, or with --peers those of foolbox, torchattacks, ART and secml-torch, by a Python
that has them and need not have rbjax:

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0 foolbox==3.3.4 adversarial-robustness-toolbox==1.20.1 \
        packaging scipy tqdm
    peers/bin/pip install --no-deps torchattacks==3.5.1 secml-torch==1.5

Rows of earlier calls, in results.json, stay in the table if they are of the same images.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.parity.exact import measures, ours, problems, table
from experiments.parity.exact.measures import Row
from experiments.parity.exact.problems import MODELS, Problem
from rbjax import atomic, console

HERE = Path(__file__).resolve().parent
SIDE = "experiments.parity.exact.torch_side"


def of_ours(made: dict[str, Problem], only: Sequence[str], seed: int) -> list[Row]:
    """Returns the rows of rbjax's attacks.

    Args:
        made: the problems.
        only: names of attacks; none: all.
        seed: of the keys.
    """
    rows = []
    for entry in ours.ENTRIES:
        for norm in entry.norms if not only or entry.attack in only else ():
            began = time.perf_counter()
            solved = {name: problem for name, problem in made.items() if norm in problem.exact}
            found = {
                name: measures.kept(ours.measure(entry, norm, problem, seed))
                for name, problem in solved.items()
            }
            rows.append(Row("rbjax", entry.attack, entry.called, norm, entry.smallest, found))
            print(f"{rows[-1].key()}: {time.perf_counter() - began:.0f} s", flush=True)
    return rows


def of_peers(made: dict[str, Problem], python: str, only: Sequence[str]) -> dict[str, Any]:
    """Returns what the peers' side writes: its rows and versions."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "problems.npz", Path(folder) / "found.json"
        problems.export(made, source)
        command = [python, "-m", SIDE, str(source), str(target), *only]
        subprocess.run(command, check=True, cwd=HERE.parents[2])
        return json.loads(target.read_text())


def versions() -> dict[str, str]:
    """Returns the versions of what takes part on our side."""
    names = ("rbjax", "jax", "numpy", "scipy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


@console.steady()
def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", metavar="PYTHON", help="measure the peers, by this Python")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="attacks, as rbjax's")
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--num-images", type=int, default=5, help="of each kind and model")
    parser.add_argument("--seed", type=int, default=0, help="of models, images and keys")
    parser.add_argument("--folder", type=Path, default=HERE, help="of results.json and results.md")
    arguments = parser.parse_args(argv)
    path = arguments.folder / "results.json"
    images = {"num_images": arguments.num_images, "seed": arguments.seed}
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if kept.get("images") != images:
        kept = {"images": images, "made": {}, "rows": {}}
    began = time.perf_counter()
    made = {name: problems.make(name, **images) for name in arguments.models}
    print(f"solved in {time.perf_counter() - began:.0f} s", flush=True)
    if arguments.peers:
        found = of_peers(made, arguments.peers, arguments.only)
        rows, side = [Row(**row) for row in found["rows"]], "peers"
        used = found["versions"]
    else:
        rows, side = of_ours(made, arguments.only, arguments.seed), "rbjax"
        used = versions()
    said = shlex.join(sys.argv[1:] if argv is None else argv)
    if arguments.peers:
        said = said.replace(arguments.peers, "PYTHON")
    date = datetime.date.today().isoformat()
    kept["made"][side] = {"options": said, "date": date, "versions": used}
    for row in rows:
        kept["rows"][row.key()] = row._asdict()
    atomic.write_json(path, kept)
    text = table.report(kept)
    (arguments.folder / "results.md").write_text(text)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
