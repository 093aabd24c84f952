"""The command `rbjax`: what it gives to whom, wherever it is started."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import rbjax
from rbjax import __main__ as command
from rbjax import config_file, doctor


def test_help_and_version_wait_for_nothing(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rbjax {rbjax.__version__}\n"
    program = (
        "import sys; from rbjax.__main__ import main; main(['--help']); main([])\n"
        "print({'jax', 'numpy', 'absl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert all(f"rbjax {name}" in done.stdout for name in command._ALL)


def test_a_job_is_what_main_runs(monkeypatch):
    asked = []
    monkeypatch.setattr("rbjax.main.main", lambda argv: asked.append(argv[1:]) or 75)
    assert command.main(["train", "uat_digits:smoke", "--config.seed=1"]) == 75
    assert command.main(["score", "--config=mine.py"]) == 75
    assert command.main(["evaluate", "runs/a"]) == 75
    assert command.main(["evaluate", "runs/a", "--config=mine.py"]) == 75
    assert asked == [
        ["--config=uat_digits:smoke", "--config.task=train", "--config.seed=1"],
        ["--config.task=score", "--config=mine.py"],
        ["--config=evaluate_standard", "--workdir=runs/a"],
        ["--workdir=runs/a", "--config=mine.py"],
    ]


def test_the_configs_that_come_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # away from the clone
    assert config_file.load("uat_digits", "smoke").num_epochs == 2
    assert config_file.load("configs/uat_digits.py", "").num_epochs == 30
    assert command.main(["configs"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(config_file.bundled())
    assert all(line.split()[1][0].isupper() for line in listed)
    for name in ("configs", "report", "doctor"):
        assert command.main([name, "--help"]) == 0
        assert "rbjax configs [--copy" in capsys.readouterr().out
    assert command.main(["configs", "--copy=mine"]) == 0
    assert "; rbjax train mine/uat_digits.py uses one" in capsys.readouterr().out
    assert {file.stem for file in (tmp_path / "mine").iterdir()} == set(config_file.bundled())
    assert command.main(["configs", "--copy=mine"]) == 2
    assert "is there already; nothing was copied" in capsys.readouterr().err
    (tmp_path / "uat_digits").mkdir()  # of that name, as `--copy uat_digits` makes it
    assert config_file.load(*config_file.split(["--config=uat_digits:smoke"])[:2]).num_epochs == 2


def test_help_of_a_job_is_of_that_command_and_kinds_are_listed(capsys):
    for name, argument in (("train", "CONFIG"), ("evaluate", "RUN"), ("score", "CONFIG")):
        assert command.main([name, "--help"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"rbjax {name} {argument} ")
        assert "--config.GROUP.FIELD=VALUE" in said
        assert "attacks.<label>.epsilon" in said
        assert "python -m" not in said
        assert command.main([name, "--list=attacks"]) == 0
        assert capsys.readouterr().out.startswith("fgsm ")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["trian"], "there is no command 'trian'.*did you mean 'train'"),
        (["train"], "rbjax train CONFIG: name a config"),
        (["configs", "--cpoy"], "'--cpoy' is not understood"),
        (["configs", "--copy=mine.py"], "mine.py: is a file; give a folder"),
        (["evaluate"], "rbjax evaluate RUN: name a run directory"),
        (["evaluate", "mine.py"], "'mine.py': is a file, so it is not a run directory"),
        (["score", "runs"], "--config=runs: is a folder.*a run directory is --workdir=runs"),
        (["train", "uat_digits", "--config.task=predict"], "score; .*: rbjax predict RUN FOLDER"),
        (["train", "uat_digitz"], "no such file.*did you mean 'uat_digits'"),
    ],
)
def test_mistakes_are_one_line(typed, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()  # beside which those that come with rbjax are named, too
    (tmp_path / "runs").mkdir()
    assert command.main(typed) == 2
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert said.count("\n") == 1


def test_doctor_says_what_there_is_and_what_would_go_wrong(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(doctor, "_gpu", lambda: "Some GPU")
    versions = {"jax": "0.12.0", "jax-cuda12-plugin": "0.7.2"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    assert command.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for said in (
        "jax 0.12.0",
        f"{tmp_path / 'none'} (does not exist yet)",
        "- Some GPU is not used: this JAX has no plugin for it; pip install 'rbjax[cuda12]'",
        "- jax-cuda12-plugin 0.7.2 does not fit jax 0.12.0",
        "8 x cpu",
    ):
        assert said in printed, said
    assert "nothing was found" not in printed


@pytest.mark.parametrize("arguments", [[], ["--page"], ["a", "b"]])
def test_report_wants_one_run(arguments, capsys):
    assert command.main(["report", *arguments]) == 2
    assert "name one run directory" in capsys.readouterr().err
