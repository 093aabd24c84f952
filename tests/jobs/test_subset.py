"""A job on a subset of train: its run directory belongs to the examples, not to the file's name."""

import numpy as np
import pytest

from rbjax import atomic, command_line
from rbjax.data import subset
from rbjax.train import train
from rbjax.training import run_directory, setup


def test_a_run_belongs_to_the_examples_of_its_subset(job, tmp_path):
    path, workdir = tmp_path / "kept.npz", str(tmp_path / "run")
    given = job(num_epochs=1, dataset__max_train_examples=None, dataset__subset=str(path))
    full = setup.load_train(command_line.resolve(job(dataset__max_train_examples=None), "x"))[0]
    ids = full.example_ids[full.labels < 5][:200]
    atomic.write_npz(path, example_ids=ids)

    config = command_line.resolve(given, workdir)
    assert config.dataset.subset_digest == subset.digest(ids)
    kept = setup.load_train(config)[0]
    np.testing.assert_array_equal(kept.example_ids, ids)
    assert kept.class_counts[5:].sum() == 0
    train(config, workdir)
    assert run_directory.read_config(workdir)["dataset"]["subset_digest"] == subset.digest(ids)
    step = setup.checkpoints(workdir).steps()[0]
    assert step == 200 // config.batch_size

    moved = tmp_path / "elsewhere.npz"
    atomic.write_npz(moved, example_ids=ids[::-1])
    given.dataset.subset = str(moved)
    train(command_line.resolve(given, workdir), workdir)  # the same examples: trained already

    atomic.write_npz(moved, example_ids=ids[:150])
    with pytest.raises(ValueError, match=r"belongs to another config \(dataset\.subset_digest"):
        train(command_line.resolve(given, workdir), workdir)
    atomic.write_npz(path, example_ids=ids[:150])
    with pytest.raises(ValueError, match="holds other examples than it did"):
        setup.load_train(config)


def test_what_is_wrong_shows_before_training(job, tmp_path):
    with pytest.raises(ValueError, match=r"dataset\.subset = 'gone\.npz': no such file"):
        command_line.resolve(job(dataset__subset="gone.npz"), str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"belongs to dataset\.subset, which is not given"):
        command_line.resolve(job(dataset__subset_digest="0" * 16), str(tmp_path / "run"))
