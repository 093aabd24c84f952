"""What is in the folder of checkpoints is whole, whatever stopped who wrote it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from rbjax.errors import FullDiskError
from rbjax.training import checkpoint
from rbjax.training.checkpoint import Checkpoints
from tests.limits import files_of_at_most


def test_a_manifest_that_lists_fewer_files_than_there_are_is_found_out(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"weights": np.arange(3.0)})
    manifest = tmp_path / "1" / checkpoint.MANIFEST
    listed = json.loads(manifest.read_text())
    name = max(listed)
    manifest.write_text(json.dumps({k: v for k, v in listed.items() if k != name}))
    with pytest.raises(ValueError, match=f"sha256.json does not list {name}"):
        checkpoints.restore_latest({"weights": np.zeros(3)})


def test_a_full_disk_is_one_line_and_the_last_good_step_stays(tmp_path, caplog, capfd, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = {"weights": np.random.default_rng(0).random(20_000)}
    checkpoints.save(1, state)
    with files_of_at_most(50_000), pytest.raises(FullDiskError) as error:
        checkpoints.save(2, state)
    assert str(error.value).startswith(f"{tmp_path / 'checkpoints'}: no room is left there")
    assert "\n" not in str(error.value)
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
        with pytest.raises(FullDiskError):
            checkpoints.save(2, state)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    checkpoints.save(2, state)
    assert checkpoints.steps() == [2, 1]


@pytest.mark.parametrize("moment", ["written", "moved", "swapped"])
def test_a_step_that_is_written_again_is_there_at_every_moment(tmp_path, monkeypatch, moment):
    """Of one checkpoint that is kept, whenever the process dies."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(3, {"x": np.float32(1)})

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "written":
            patch.setattr(checkpoint.atomic, "write_json", die)
        else:
            patch.setattr(checkpoint.intact, "recover", die)
        if moment == "moved":
            patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # it is killed
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(3, {"x": np.float32(2)}, again=True)
    checkpoint.intact.recover(tmp_path)
    restored = checkpoints.restore_latest({"x": np.float32(0)})
    assert restored is not None
    assert restored.state["x"] == {"written": 1, "moved": 2, "swapped": 1}[moment]
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    checkpoints.save(3, {"x": np.float32(5)}, again=True)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    restored = checkpoints.restore_latest({"x": np.float32(0)})
    assert restored is not None
    assert restored.state["x"] == 5
