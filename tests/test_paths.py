"""Paths as people write them: `~`, `~user`, and colons."""

import getpass
import os
from pathlib import Path

import numpy as np
import pytest

from rbjax import atomic, command_line
from rbjax.config import ConfigError
from rbjax.data import storage, subset
from rbjax.journal import Journal
from rbjax.paths import expanded


def test_home_folders(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of_mine")
    assert expanded("~/runs") == Path("/home/of_mine/runs")
    assert expanded("~") == Path("/home/of_mine")
    assert expanded(f"~{getpass.getuser()}/x") == Path(
        os.path.expanduser(f"~{getpass.getuser()}/x")
    )
    for path in ("./~/x", "/a/~b", "runs/~"):
        assert expanded(path) == Path(path)
    with pytest.raises(ValueError, match=r"workdir = '~nobody_here/x': there is no user 'nobody_"):
        expanded("~nobody_here/x", field="workdir")


def test_library_calls_take_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    atomic.write_npz("~/ids.npz", **{subset.FIELD: np.arange(3)})
    assert subset.read_ids("~/ids.npz").tolist() == [0, 1, 2]
    Journal("~/journal", {"call": "mine"})
    assert storage.folder_of("~/data") == tmp_path / "data"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.npz", "journal"]


CONFIG = """
from rbjax import config as schema
def get_config(variant=""):
    config = schema.default()
    return schema.vary(config, variant, smoke=lambda config: config.update(seed=7))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "a:b"
    folder.mkdir()
    for name in ("conf.py", "of:me.py", "no_suffix"):
        (folder / name).write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("name", ["conf.py", "of:me.py"])
@pytest.mark.parametrize("start", ["~", "HOME"])
def test_a_config_file_beside_colons(home, name, start):
    path = f"{start.replace('HOME', str(home))}/a:b/{name}"
    plain = command_line.parse(["rbjax", f"--config={path}", "--workdir=~/run:1"])
    assert (plain.config.seed, plain.workdir) == (0, str(home / "run:1"))
    smoke = command_line.parse(["rbjax", "--config", f"{path}:smoke"])
    assert (smoke.config.seed, smoke.workdir) == (7, f"runs/{name.removesuffix('.py')}_smoke")
    with pytest.raises(ValueError, match="did you mean 'smoke'"):
        command_line.parse(["rbjax", f"--config={path}:smoek"])


def test_a_config_file_that_is_not_there_is_named_whole(home):
    for path, file in (("a:b/cnf.py:smoke", "a:b/cnf.py"), ("a:b/cnf.py", "a:b/cnf.py")):
        with pytest.raises(ConfigError) as error:
            command_line.parse(["rbjax", f"--config={home}/{path}"])
        assert f"--config={home}/{file}: no such file" in str(error.value)
        assert f"did you mean '{home}/a:b/conf.py'" in str(error.value)


def test_every_path_of_a_config(home):
    from rbjax import config as schema

    config = schema.default()
    config.workdir, config.data_dir = "~/run", "~/data"
    config.dataset.name, config.dataset.path = "folder", "~/pictures"
    config.dataset.subset, config.corruptions.baseline = "~/ids.npz", "~/a"
    config.attacks.pgd = schema.attack("pgd", source="~/b")
    values = command_line._expanded(config.to_dict())
    assert (values["workdir"], values["data_dir"]) == (f"{home}/run", f"{home}/data")
    assert (values["dataset"]["path"], values["dataset"]["subset"]) == (
        f"{home}/pictures",
        f"{home}/ids.npz",
    )
    assert values["corruptions"]["baseline"] == f"{home}/a"
    assert values["attacks"]["pgd"]["source"] == f"{home}/b"
    config.attacks.pgd.source = "~nobody_here/b"
    with pytest.raises(ValueError, match=r"attacks\.pgd\.source = '~nobody_here/b'"):
        command_line.resolve(config, "unused")
