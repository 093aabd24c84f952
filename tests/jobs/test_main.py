"""The command line: the job itself, and what a mistake looks like."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rbjax.main import main

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def refused(capsys, *arguments: str) -> str:
    """Runs a command that must end with status 2 and one line; returns the line."""
    assert main(["rbjax", *arguments]) == 2
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in output.err
    return lines[0]


DIGITS = "--config=configs/uat_digits.py"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ("--config=FILE is missing", "configs/uat_digits.py")),
        (["--config=configs/uat_digit.py"], ("no such file", "did you mean", "uat_digits.py")),
        ([DIGITS + ":smok"], ("variant 'smok'", "did you mean 'smoke'")),
        ([DIGITS, "--config.method.epsilom=4/255"], ("'epsilom' in method", "'epsilon'")),
        ([DIGITS, "--config.metod.epsilon=4/255"], ("'metod'", "did you mean 'method'")),
        ([DIGITS, "--config.method.epsilon=eight"], ("config.method.epsilon", "8/255")),
        ([DIGITS, "--config.method.epsilon=nan"], ("config.method.epsilon", "8/255")),
        ([DIGITS, "--config.method.epsilon=-1/255"], ("method.epsilon", "above 0")),
        ([DIGITS, "--config.method.epsilon=8"], ("method.epsilon", "did you mean 8/255")),
        ([DIGITS, "--config.dataset.name=mnits"], ("dataset.name", "did you mean 'mnist'")),
        ([DIGITS, "--config.model.name=resnet"], ("model.name", "did you mean 'resnet18'")),
        ([DIGITS, "--config.method.name=universel"], ("method.name", "'universal'")),
        ([DIGITS, "--config.attacks.pgd20.name=pdg"], ("attacks.pgd20.name", "'pgd'")),
        ([DIGITS, "--config.batch_size=2.5"], ("batch_size", "whole number")),
        ([DIGITS, "--wrokdir=x"], ("wrokdir", "workdir")),
        ([DIGITS, "method.epsilon=0.1"], ("'method.epsilon=0.1' is not understood",)),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(capsys, tmp_path, arguments, parts):
    workdir = tmp_path / "run"
    line = refused(capsys, *arguments, *([f"--workdir={workdir}"] if arguments else []))
    for part in parts:
        assert part in line
    assert not workdir.exists()


def test_a_batch_that_does_not_fit_the_devices_is_refused(capsys, tmp_path):
    line = refused(capsys, DIGITS, "--config.batch_size=100", f"--workdir={tmp_path / 'run'}")
    assert "batch_size = 100: must be divisible by the 8 local devices; nearest: 96 or 104" in line


def test_evaluating_what_is_no_run_directory_is_refused(capsys, tmp_path):
    line = refused(
        capsys, "--config=configs/evaluate_standard.py", f"--workdir={tmp_path / 'nowhere'}"
    )
    assert "not a run directory" in line


def test_the_whole_job_then_another_config_then_an_evaluation(capsys, tmp_path):
    workdir = tmp_path / "run"
    small = [
        DIGITS + ":smoke",
        f"--workdir={workdir}",
        "--config.num_epochs=1",
        "--config.dataset.max_train_examples=128",
        "--config.dataset.max_test_examples=40",
        "--config.attacks.pgd20.num_steps=2",
        "--config.attacks.universal.num_epochs=1",
        "--config.score.max_steps=5",
    ]
    assert main(["rbjax", *small]) == 0
    output = capsys.readouterr().out
    assert str(workdir) in output
    for column in ("class", "clean", "fgsm", "pgd20", "universal"):
        assert column in output
    files = {path.name for path in workdir.iterdir()}
    assert {"config.json", "metrics.jsonl", "metrics.csv", "report.json", "report.npz"} <= files
    assert {"rpr.json", "rpr.npz", "classwise.csv"} <= files
    assert sum(name.endswith(".png") for name in files) >= 2

    before = (workdir / "config.json").read_bytes()
    line = refused(capsys, *small, "--config.method.epsilon=4/255")
    assert "belongs to another config" in line
    assert "method.epsilon = 0.1 there" in line
    assert (workdir / "config.json").read_bytes() == before

    evaluation = [
        "--config=configs/evaluate_standard.py:smoke",
        f"--workdir={workdir}",
        "--config.attacks.iterative.num_steps=2",
    ]
    assert main(["rbjax", *evaluation]) == 0
    results = json.loads((workdir / "report.json").read_text())["results"]
    assert set(results) == {"clean", "fgsm", "iterative", "pgd", "pgd_l2", "universal"}
    assert results["fgsm"]["attack"]["epsilon"] == 0.1
    line = refused(capsys, *evaluation, "--config.dataset.name=mnist")
    assert "dataset.name = 'mnist': the run in" in line


def test_help_is_quick_and_imports_no_jax():
    program = (
        "import sys; from rbjax.main import main; main(['rbjax', '--help']); "
        "assert 'jax' not in sys.modules, 'jax was imported'"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert "--config.method.epsilon=4/255" in result.stdout
    assert "dataset.validation_fraction" in result.stdout


def test_every_config_and_variant_resolves():
    from rbjax import command_line

    files = [path for path in (REPOSITORY / "configs").glob("*.py") if path.stem != "__init__"]
    assert len(files) >= 3
    for file in files:
        for variant in ("", ":smoke"):
            given, workdir = command_line.parse(["rbjax", f"--config={file}{variant}"])
            assert workdir == f"runs/{file.stem}" + ("_smoke" if variant else "")
            if given.task != "evaluate":
                assert command_line.resolve(given, workdir).dataset.name
