"""A run from before a run's config said which schema wrote it is read like one of today's."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import rbjax
from rbjax import analysis, command_line
from rbjax import config as schema
from rbjax.main import main
from rbjax.train import train
from rbjax.training import run_directory
from rbjax.training.log import read_metrics

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_v0"
CONFIG = [
    f"--config={Path(__file__).parents[2] / 'configs' / 'uat_digits.py'}:smoke",
    "--config.model.name=mlp",
    "--config.model.widths=8,8",
]


@pytest.fixture
def workdir(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "run"))


def test_it_says_no_version_and_holds_no_path_of_a_machine():
    config = run_directory.read_config(FIXTURE)
    assert not set(config) & {"rbjax", "schema"}
    for file in FIXTURE.rglob("*"):
        assert file.is_dir() or b"/tmp" not in file.read_bytes()


def test_it_is_evaluated_as_it_was(workdir):
    before = analysis.read_report(FIXTURE)
    written = (workdir / "config.json").read_bytes()
    command = [*CONFIG, "--config.task=evaluate", f"--workdir={workdir}"]
    # The universal perturbation was crafted on all training images, and no diagnostics are wanted.
    command += ["--config.attacks.universal.craft_on=train", "--config.diagnostics=0"]
    assert main(["rbjax", *command]) == 0
    after = analysis.read_report(workdir)
    assert list(after["results"]) == list(before["results"])
    for label, result in before["results"].items():
        confusion = after["results"][label]["confusion"]
        assert confusion.sum() == sum(before["class_counts"]) > 0
        np.testing.assert_array_equal(confusion, result["confusion"])
    assert (workdir / "config.json").read_bytes() == written


def test_it_is_known_as_trained_by_the_same_command_and_refused_another():
    given, path, typed, _ = command_line.parse(["rbjax", *CONFIG, f"--workdir={FIXTURE}"])
    config = command_line.resolve(given, path, typed=typed)
    stamped = schema.stamped(config.to_dict(), rbjax.__version__)
    options = {
        "ignored": schema.unaffecting_weights(),
        "usual": schema.usual(config.to_dict()),
    }
    assert run_directory.prepare(FIXTURE, stamped, **options) is True
    stamped["optimizer"] = {**stamped["optimizer"], "b1": 0.5}
    with pytest.raises(ValueError, match=r"optimizer\.b1 = 0\.9 there, 0\.5 here"):
        run_directory.prepare(FIXTURE, stamped, **options)


def test_it_is_gone_on_with_and_is_of_todays_version_then(workdir, capsys):
    """For an epoch more, which its constant learning rate allows."""
    log, epochs = read_metrics(workdir), run_directory.read_config(workdir)["num_epochs"]
    command = [*CONFIG, f"--workdir={workdir}", f"--config.num_epochs={epochs + 1}"]
    given, path, typed, _ = command_line.parse(["rbjax", *command])
    train(command_line.resolve(given, path, typed=typed), path)
    assert f"training from step {log[-1]['step']} of" in capsys.readouterr().out
    after = read_metrics(workdir)
    assert after[: len(log)] == log
    assert [record["epoch"] for record in after[len(log) :]] == [epochs + 1]
    config = run_directory.read_config(workdir)
    assert (config["schema"], config["num_epochs"]) == (1, epochs + 1)


def test_a_run_of_today_says_which_rbjax_and_which_schema_wrote_it(tmp_path):
    config = schema.resolve(schema.default())
    run_directory.prepare(tmp_path, schema.stamped(config.to_dict(), rbjax.__version__))
    written = run_directory.read_config(tmp_path)
    assert (written["rbjax"], written["schema"]) == (rbjax.__version__, 1)
    assert schema.stored(written).to_dict() == config.to_dict()
    written["schema"] = 2
    with pytest.raises(schema.ConfigError, match=r"schema 2.* this rbjax knows those up to 1"):
        schema.stored(written)
