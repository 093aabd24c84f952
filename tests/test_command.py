"""The command `rbjax`: what it gives to whom, wherever it is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import jax
import pytest

import rbjax
from rbjax import __main__ as command
from rbjax import config_file, platforms


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
        (["doctor", "nonsense"], "rbjax doctor: 'nonsense' is not understood"),
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
    monkeypatch.setattr(platforms, "gpu", lambda: platforms.Card("Some GPU", "570.1"))
    versions = {"jax": "0.12.0"}
    monkeypatch.setattr(platforms, "version", versions.get)
    assert command.main(["doctor"]) == 0
    hint = "- Some GPU is not used: this JAX has no plugin for it; pip install 'rbjax[cuda12]' (its"
    assert hint in capsys.readouterr().out
    versions["jax-cuda12-plugin"] = "0.7.2"
    assert command.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for said in (
        "jax 0.12.0",
        f"{tmp_path / 'none'} (does not exist yet)",
        "- Some GPU is not used: JAX_PLATFORMS",
        "- jax-cuda12-plugin 0.7.2 does not fit jax 0.12.0",
        "8 x cpu",
    ):
        assert said in printed, said
    assert "nothing was found" not in printed
    assert re.search(r"^wandb +(\d|not installed .*'rbjax\[wandb\]')", printed, re.M)
    assert {"mlflow", "datasets"} <= {line.split(" ")[0] for line in printed.splitlines()}


def test_doctor_names_folders_that_cannot_be_used(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file" / "cache"))
        assert command.main(["doctor"]) == 0
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    printed = capsys.readouterr().out
    assert f"- TFDS_DATA_DIR = {tmp_path / 'file'}: is a file" in printed
    assert f"- JAX_COMPILATION_CACHE_DIR = {tmp_path / 'file' / 'cache'}: cannot be" in printed


def test_a_platform_without_its_plugin_is_one_line():
    """Of JAX's own, an AssertionError or a RuntimeError, in whichever command asks first."""
    where = {**os.environ, "JAX_PLATFORMS": "tpu"}
    program = "from rbjax.__main__ import main; print(main(['doctor']), main({}))"
    typed = ["train", "uat_digits:smoke", "--workdir=nowhere/run", "--dry_run"]
    found = subprocess.run(
        [sys.executable, "-c", program.format(typed)], env=where, capture_output=True, text=True
    )
    said = r"JAX_PLATFORMS = tpu: this JAX has no plugin for tpu; pip install 'rbjax\[tpu\]'; or"
    assert re.search(rf"^- {said}", found.stdout, re.M)
    assert re.search(r"^prepared  ", found.stdout, re.M)
    assert found.stdout.endswith("\n0 2\n")
    assert re.match(rf"rbjax: {said}", found.stderr)
    assert found.stderr.count("\n") == 1


def test_no_device_of_a_platform_is_one_line_too(monkeypatch):
    def asserts():
        raise AssertionError

    monkeypatch.setattr(jax, "local_devices", asserts)
    with pytest.raises(ValueError, match="no device of it can be seen on this machine"):
        platforms.check()


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, r"'rbjax\[cuda13\]' with a driver from 580 on, 'rbjax\[cuda12\]' from 525"),
        ("470.82.01", "its driver 470.82.01 is too old: .* update it"),
        ("570.124.06", r"^pip install 'rbjax\[cuda12\]' "),
        ("580.65.06", r"^pip install 'rbjax\[cuda13\]', or 'rbjax\[cuda12\]'"),
    ],
)
def test_the_driver_says_which_cuda(driver, words):
    assert re.search(words, platforms.cuda(driver))


def test_the_driver_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.65.06'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert platforms.gpu() == ("NVIDIA H200", "580.65.06")


@pytest.mark.parametrize("arguments", [[], ["--page"], ["a", "b"]])
def test_report_wants_one_run(arguments, capsys):
    assert command.main(["report", *arguments]) == 2
    assert "name one run directory" in capsys.readouterr().err
