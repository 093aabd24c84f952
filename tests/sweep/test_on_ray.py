"""A grid on Ray: two workers share it, each cell once, whatever happens to them."""

import importlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rbjax import config as schema
from rbjax import sweep
from rbjax.sweep import on_ray


def config(seed):
    config = schema.default()
    config.seed = seed
    config.dataset.update(max_train_examples=64, max_test_examples=50)
    config.batch_size, config.num_epochs, config.diagnostics = 32, 1, 0
    config.model.name, config.model.widths = "mlp", (8,)
    config.attacks.fgsm = schema.attack("fgsm", epsilon=0.1)
    config.score.max_steps = 0
    return config


def test_without_ray_a_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    original = importlib.import_module

    def absent(name, *package):
        if name == "ray":
            raise ImportError(name)
        return original(name, *package)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r"pip install 'rbjax\[ray\]'"):
        sweep.run_on_ray([], str(tmp_path))
    cells = [sweep.Cell("one", config(0))]
    for typed, message in (
        (["--engine=ray"], "needs Ray, which is not installed"),
        (["--engine=rai"], "engine 'rai' is unknown; allowed: process, ray; did you mean 'ray'?"),
        (["--cpus=2"], "--cpus: only with --engine=ray"),
        (["--engine=ray", "--cpus=0"], "cpus is 0; it must be a whole number of at least 1"),
    ):
        command = [f"--workdir={tmp_path}", *typed]
        code = sweep.command({"a": lambda: cells}, {"a": str}, name="x", doc="", argv=command)
        assert code == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def ray():
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()


@pytest.fixture
def cells(tmp_path):
    """Four cells that write down who ran them; the second's first worker is killed."""

    def run(config, workdir, *, begun):
        mine = pathlib.Path(begun, str(config.seed))
        before = mine.read_text() if mine.exists() else ""
        mine.write_text(f"{before}{os.getpid()}\n")
        if config.seed == 1 and not before:
            os.kill(os.getpid(), signal.SIGKILL)
        if config.seed == 2:
            raise ArithmeticError("out of luck")
        time.sleep(1)
        return {"square": config.seed**2, "threads": os.environ["NPROC"]}

    begun = tmp_path / "begun"
    begun.mkdir()
    options = {"begun": str(begun)}
    return [sweep.Cell(f"cell-{n}", config(n), run, options) for n in range(5)]


@pytest.mark.slow
def test_two_workers_share_a_grid(ray, cells, tmp_path):
    lines, workdir = [], str(tmp_path / "grid")
    ended = sweep.run_on_ray(cells, workdir, cpus=1, tell=lines.append)
    assert sorted(ended.finished) == ["cell-0", "cell-1", "cell-3", "cell-4"]
    assert ended.failed == ["cell-2"]
    assert any("cell-2: failed: ArithmeticError: out of luck" in line for line in lines)
    assert "out of luck" in (tmp_path / "grid/failures/cell-2.txt").read_text()
    found = sweep.read(cells, f"{workdir}/results")
    assert {name: result["square"] for name, result in found.items()} == {
        "cell-0": 0,
        "cell-1": 1,
        "cell-3": 9,
        "cell-4": 16,
    }
    assert {result["threads"] for result in found.values()} == {"1"}
    who = {n: (tmp_path / f"begun/{n}").read_text().split() for n in range(5)}
    # Once each, but for the one whose worker was killed, which Ray gave to another.
    assert {n: len(pids) for n, pids in who.items()} == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
    assert who[1][0] != who[1][1]
    assert len({pids[-1] for pids in who.values()}) >= 2
    assert str(os.getpid()) not in {pid for pids in who.values() for pid in pids}
    again = sweep.run_on_ray(cells, workdir, cpus=1)
    assert again.failed == ["cell-2"]
    assert len((tmp_path / "begun/3").read_text().split()) == 1


@pytest.mark.slow
def test_results_are_fetched_where_no_files_are_shared(ray, cells, tmp_path, monkeypatch):
    """As from another machine: the worker's files are gone when its task has ended."""
    whole = on_ray._attempt

    def vanishing(cell, folder, store, title):
        outcome = whole(cell, folder, store, title)
        shutil.rmtree(store)
        return outcome

    monkeypatch.setattr(on_ray, "_attempt", vanishing)
    workdir = str(tmp_path / "grid")
    assert sweep.run_on_ray(cells[:1], workdir).finished == ["cell-0"]
    assert sweep.read(cells[:1], f"{workdir}/results")["cell-0"]["square"] == 0


@pytest.mark.slow
def test_trainings_equal_those_in_sequence(ray, tmp_path):
    cells = [sweep.Cell(f"cell-{seed}", config(seed)) for seed in range(2)]
    sweep.run_on_ray(cells, str(tmp_path / "ray"), cpus=1)
    program = (
        "from tests.sweep.test_on_ray import config\n"
        "from rbjax import sweep\n"
        "cells = [sweep.Cell(f'cell-{seed}', config(seed)) for seed in range(2)]\n"
        f"sweep.run(cells, {str(tmp_path / 'alone')!r})\n"
    )
    environment = {**os.environ, "NPROC": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    alone, shared = (
        sweep.read(cells, str(tmp_path / name / "results")) for name in ("alone", "ray")
    )
    assert alone == shared
