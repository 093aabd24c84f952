"""rbjax's attacks find what foolbox's and torchattacks' found on the same weights and images."""

import numpy as np
import pytest

from experiments.parity import ours, peers
from experiments.parity.train import CONFIGS
from rbjax.data import storage

pytestmark = [pytest.mark.real_data, pytest.mark.optimized]


def found(model):
    """What the peers found, if the images are here and are the same ones."""
    dataset = CONFIGS[model]().dataset.name
    if storage.find(dataset) is None:
        pytest.skip(f"{dataset} is not in {storage.default_data_dir()}")
    kept = ours.peers_found(model)
    np.testing.assert_array_equal(kept["labels"], peers.images(model).labels)
    return kept


def assert_close(flags, theirs, *, points, opposed):
    """Within so many points of the peer's mean, and few images opposed to all its seeds."""
    assert abs(flags.mean() - theirs.mean()) <= points / 100 + 1e-9
    assert np.sum((flags != theirs).all(0)) <= opposed * flags.size


@pytest.mark.parametrize("model", ["mnist_pgd", "cifar10_pgd"])  # the third is in results.md
@pytest.mark.parametrize("peer", ours.PEERS["pgd"])
def test_pgd_finds_what_the_peers_find(model, peer, pgd_flags):
    theirs = found(model)[peer]
    assert_close(pgd_flags(model, theirs.shape[1]), theirs, points=0.5, opposed=0.02)


@pytest.fixture(scope="module")
def pgd_flags():
    """PGD-40 of a model, run once for both peers."""
    kept = {}

    def flags(model, num_images):
        if model not in kept:
            kept[model] = ours.robust(model, "pgd", num_images, seed=0)
        return kept[model]

    return flags


@pytest.mark.parametrize("model", CONFIGS)
def test_apgd_finds_what_torchattacks_finds(model):
    theirs = found(model)["apgd"]
    flags = ours.robust(model, "apgd", theirs.shape[1], seed=0)
    assert_close(flags, theirs, points=1, opposed=0.02)
