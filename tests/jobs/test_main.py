"""The command line: the job itself, and what a mistake looks like."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from rbjax.main import main

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def refused(capsys, *arguments: str) -> str:
    """Runs a command that must end with status 2 and one line; returns the line."""
    capsys.readouterr()  # such as the progress of what ran before
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
        ([DIGITS, "--config.method.epsilon=-1/255"], ("method.epsilon", "at least 0")),
        ([DIGITS, "--config.method.epsilon=8"], ("method.epsilon", "did you mean 8/255")),
        ([DIGITS, "--config.dataset.name=mnits"], ("dataset.name", "did you mean 'mnist'")),
        ([DIGITS, "--config.model.name=resnet17"], ("model.name", "did you mean 'resnet18'")),
        ([DIGITS, "--config.method.name=universel"], ("method.name", "'universal'")),
        ([DIGITS, "--config.attacks.pgd20.name=pdg"], ("attacks.pgd20.name", "'pgd'")),
        ([DIGITS, "--config.batch_size=2.5"], ("batch_size", "whole number")),
        ([DIGITS, "--wrokdir=x"], ("wrokdir", "workdir")),
        ([DIGITS, "--config.method=standard"], ("config.method", "a group", "name")),
        ([DIGITS, "--config.method.epsilon"], ("write --config.method.epsilon=VALUE",)),
        ([DIGITS, "--config.dataset.flip_vertical=maybe"], ("flip_vertical", "true nor false")),
        ([DIGITS, "--config.num_epochs=none"], ("num_epochs is missing",)),
        ([DIGITS, "--config.schedule.name=step", "--config.schedule.milestones=abc"], ("abc",)),
        ([DIGITS, "--config.model.name=lenet_modern"], ("model:", "25 x 25")),
        ([DIGITS, "--config.model.widths=(8,)"], ("model:", "widths")),
        ([DIGITS, "--config.attacks.pgd20.step_size=3"], ("attacks.pgd20.step_size", "at most 1")),
        (
            [
                DIGITS,
                "--config.attacks.pgd20.random_start=false",
                "--config.attacks.pgd20.num_restarts=2",
            ],
            ("attacks.pgd20:", "random_start"),
        ),
        ([DIGITS, "--config.score.max_pixels=100000"], ("score:", "max_pixels")),
        ([DIGITS, "--config.task=score", "--config.score.max_steps=0"], ("score.max_steps",)),
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
    assert "batch_size = 100: must be divisible by the 8 devices; nearest: 96 or 104" in line


def test_a_folder_that_cannot_be_made_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, DIGITS, f"--workdir={tmp_path / 'file' / 'run'}")
    assert "file" in line


def test_a_directory_in_which_another_job_works_is_left_alone(capsys, tmp_path):
    from rbjax.evaluate import evaluate
    from rbjax.score import score
    from rbjax.train import train

    lock = tmp_path / "run" / "lock.json"
    lock.parent.mkdir()
    lock.write_text('{"host": "far", "pid": 7, "since": "noon"}')
    with lock.open("r+") as file:  # of another open file, as another process's is
        fcntl.flock(file, fcntl.LOCK_EX)
        line = refused(capsys, f"{DIGITS}:smoke", f"--workdir={lock.parent}")
        assert "process 7 on far has worked in it since noon; wait until it has ended" in line
        nothing = ConfigDict()  # not even read
        for task in (train, evaluate, score):
            with pytest.raises(ValueError, match="process 7 on far"):
                task(nothing, str(lock.parent))
    assert [path.name for path in lock.parent.iterdir()] == ["lock.json"]
    with pytest.raises(AttributeError):  # the control: free, and there is nothing in the config
        evaluate(nothing, str(lock.parent))


def test_tuples_and_none_on_the_command_line():
    from rbjax.command_line import parse

    command = parse(
        [
            "rbjax",
            DIGITS,
            "--config.schedule.milestones=(10,20)",
            "--config.model.widths=none",
            "--config.optimizer.gradient_clip=1/2",
            "--config.dataset.flip_vertical=true",
        ]
    )
    assert command.config.schedule.milestones == (10, 20)
    assert command.config.model.widths is None
    assert command.config.optimizer.gradient_clip == 0.5
    assert command.config.dataset.flip_vertical is True
    assert "model.widths" in command.typed


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
    assert set(results) == {
        "clean",
        "fgsm",
        "iterative",
        "pgd",
        "pgd_l2",
        "pgd_l1",
        "universal",
    }
    assert results["fgsm"]["attack"]["epsilon"] == 0.1
    # What is typed counts though it is the default; the same as the run's is no contradiction.
    line = refused(capsys, *evaluation, "--config.method.name=standard")
    assert "method.name = 'standard': the run in" in line
    again = ["--config.dataset.name=digits", "--config.diagnostics=0"]
    assert main(["rbjax", *evaluation, *again]) == 0
    line = refused(capsys, *evaluation, "--config.dataset.name=mnist")
    assert "dataset.name = 'mnist': the run in" in line


def test_a_score_job_trains_to_the_end_first_and_refuses_another_config(
    capsys, tmp_path, monkeypatch
):
    from rbjax import train as training

    arguments = [
        DIGITS + ":smoke",
        "--config.task=score",
        f"--workdir={tmp_path / 'run'}",
        "--config.dataset.max_train_examples=256",
        "--config.dataset.max_test_examples=16",
        "--config.score.max_steps=2",
        "--config.validation.attack=none",
    ]
    calls, dispatch = [], training._Dispatch.__call__

    def stopping(self, *args):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return dispatch(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(training._Dispatch, "__call__", stopping)
        assert main(["rbjax", *arguments]) == 75
    assert "stopped at step 4 of 8 and saved" in capsys.readouterr().err
    assert not (tmp_path / "run/rpr.json").exists()
    assert main(["rbjax", *arguments]) == 0
    scores = json.loads((tmp_path / "run/rpr.json").read_text())
    assert scores["step"] == 8
    line = refused(capsys, *arguments, "--config.optimizer.name=sgd")
    assert "belongs to another config" in line
    assert json.loads((tmp_path / "run/rpr.json").read_text()) == scores


def test_a_full_disk_is_one_line_with_a_code_of_its_own(capsys, tmp_path, monkeypatch):
    def full(config, workdir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rbjax.train.train", full)
    assert main(["rbjax", DIGITS + ":smoke", f"--workdir={tmp_path / 'run'}"]) == 74
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rbjax: {tmp_path / 'run'}: no room is left there")


def test_help_is_quick_and_imports_neither_jax_nor_numpy():
    program = (
        "import sys; from rbjax.main import main; main(['rbjax', '--help']); "
        "slow = {'jax', 'numpy'} & set(sys.modules); assert not slow, slow"
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
            given, workdir, *_ = command_line.parse(["rbjax", f"--config={file}{variant}"])
            assert workdir == f"runs/{file.stem}" + ("_smoke" if variant else "")
            if given.task != "evaluate":
                assert command_line.resolve(given, workdir).dataset.name


def test_a_chain_of_perturbations_by_name():
    from rbjax import command_line, perturbations
    from rbjax.training import setup

    chosen = ["--config.score.perturbation=rotation+gaussian_noise", "--config.score.sigma=0.05"]
    given, workdir, typed, _ = command_line.parse(
        ["rbjax", f"--config={REPOSITORY}/configs/rpr_mnist.py", *chosen]
    )
    config = command_line.resolve(given, workdir, typed=typed)
    assert setup.create_perturbation(config) == perturbations.create(
        "rotation+gaussian_noise", max_degrees=15.0, sigma=0.05
    )


def test_none_for_a_field_of_a_group_without_names_is_answered(capsys):
    assert "checkpoint.keep" in refused(capsys, DIGITS, "--config.checkpoint.keep=none")
