"""Nothing of another user's is run, obeyed or given room for."""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from rbjax import atomic, private
from rbjax.data import imagenet_folder
from rbjax.main import main
from rbjax.training.run_directory import hold


@pytest.fixture
def cache():
    """Names a cache of compiled programs, and gives back the one that was."""
    before = jax.config.jax_compilation_cache_dir

    def named(folder):
        jax.config.update("jax_compilation_cache_dir", folder and str(folder))
        private.keep_cache_private()
        return jax.config.jax_compilation_cache_dir

    yield named
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_cache_of_programs_is_made_for_its_user_alone(cache, tmp_path):
    assert cache(tmp_path / "new" / "cache") is not None
    assert (tmp_path / "new" / "cache").stat().st_mode & 0o777 == 0o700
    assert cache("gs://bucket/cache") == "gs://bucket/cache"
    assert cache(None) is None


@pytest.mark.parametrize(("mode", "is_used"), [(0o755, True), (0o775, False), (0o777, False)])
def test_a_cache_that_others_can_write_is_left_aside(cache, tmp_path, mode, is_used):
    tmp_path.chmod(mode)
    assert (cache(tmp_path) is not None) is is_used


def test_a_lock_is_its_users_alone(tmp_path):
    with hold(tmp_path / "run"):
        assert (tmp_path / "run" / "lock.json").stat().st_mode & 0o777 == 0o600


class Marked:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def test_an_archive_with_a_pickle_or_a_huge_array_is_damaged(tmp_path):
    """A header of 2^59 bytes would be given room for, and a pickle run."""
    plain, header = io.BytesIO(), {"descr": "<f8", "fortran_order": False, "shape": (2**56,)}
    np.lib.format.write_array_header_1_0(plain, header)
    pickled = io.BytesIO()
    descr = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(pickled, descr)
    pickled.write(pickle.dumps(Marked()))
    for number, content in enumerate((plain, pickled)):
        path = tmp_path / f"{number}.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content.getvalue())
        assert atomic.read_npz(path) is None


def test_a_large_file_of_an_archive_is_not_unpacked(tmp_path, monkeypatch):
    content, path = b"0" * 100, tmp_path / "kit.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("kit/data/meta.mat")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert imagenet_folder._member(path, "meta.mat") == content
    monkeypatch.setattr(imagenet_folder, "_MOST_BYTES", 99)
    with pytest.raises(ValueError, match=r"meta\.mat has 100 bytes"):
        imagenet_folder._member(path, "meta.mat")


@pytest.fixture
def home(cache, tmp_path, monkeypatch):
    """A home of its own, and no cache that is asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache(None)
    return tmp_path


def test_programs_are_kept_in_a_folder_of_the_users_unless_told_otherwise(home):
    private.keep_programs()
    folder = private.default_folder()
    assert folder is not None
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert folder.is_relative_to(home)
    assert folder.stat().st_mode & 0o777 == 0o700
    private.keep_programs("off")
    assert jax.config.jax_compilation_cache_dir is None
    with pytest.raises(ValueError, match=r"program_cache = 'of': .* did you mean 'off'"):
        private.keep_programs("of")
    private.keep_programs(str(home / "mine"))
    private.keep_programs()  # what is asked for stays
    assert jax.config.jax_compilation_cache_dir == str(home / "mine")


def test_without_a_home_that_can_be_written_there_is_no_cache(home):
    (home / "rbjax").write_text("a file")
    private.keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_programs_that_were_used_longest_ago_make_room(home, monkeypatch):
    folder = private.default_folder()
    assert folder is not None
    other = folder.parent / "another processor"
    for number, place in enumerate((folder, other, folder, other)):
        place.mkdir(parents=True, exist_ok=True)
        (place / str(number)).write_bytes(bytes(100))
        os.utime(place / str(number), (number, number))
    for most, left in ((400, "0123"), (399, "3")):
        monkeypatch.setattr(private, "MOST_BYTES", most)
        private.keep_programs("off")
        private.keep_programs()
        assert sorted(path.name for path in folder.parent.glob("*/*")) == list(left)


def test_a_job_keeps_programs_where_its_config_says(tmp_path, monkeypatch, capsys):
    def noted(where):
        raise ValueError(f"kept: {where}")  # and the job goes no further

    monkeypatch.setattr(private, "keep_programs", noted)
    config = f"--config={Path(__file__).parents[1] / 'configs/uat_digits.py'}"
    for typed, kept in (([], "auto"), (["--config.program_cache=off"], "off")):
        assert main(["rbjax.main", config, f"--workdir={tmp_path / 'run'}", *typed]) == 2
        assert f"kept: {kept}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
