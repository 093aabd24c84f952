"""What lies where a config says: one's own data, a subset's file, weights.

A run directory belongs to what was there when it began, and so does a sweep's result.
"""

from __future__ import annotations

from rbjax.config import Config
from rbjax.data import subset
from rbjax.training import data_setup, given


def tie(config: Config) -> None:
    """Fills in the digests of what lies there, or checks those that a config has.

    Args:
        config: a resolved config.

    Raises:
        ValueError: if it is something else, is not there, or cannot be read.
    """
    _tie_to_subset(config)
    _tie_to_own_data(config)
    given.tie(config)


def digests(config: Config) -> dict[str, str]:
    """Returns digests of what a config names by its place, which may be something else tomorrow.

    Args:
        config: as given, or resolved.

    Returns:
        By dotted field: of one's own data, of another test set of one's own, of a subset's file and
        of given weights, each where there is one.

    Raises:
        ValueError: if it is not there, or cannot be read.
    """
    tied = config.copy_and_resolve_references()
    tie(tied)
    found = {
        "dataset.fingerprint": tied.dataset.get("fingerprint"),
        "dataset.subset_digest": tied.dataset.get("subset_digest"),
        "dataset.test_on": data_setup.fingerprint_of_other_test(tied),
        "model.weights_digest": tied.model.get("weights_digest"),
    }
    return {field: digest for field, digest in found.items() if digest is not None}


def _tie_to_subset(config: Config) -> None:
    """Fills in the digest of the subset's file: a run directory belongs to what is in it."""
    path, expected = config.dataset.subset, config.dataset.subset_digest
    if path is not None:
        with config.unlocked():
            config.dataset.subset_digest = subset.digest(subset.read_ids(path, expected=expected))


def _tie_to_own_data(config: Config) -> None:
    """Fills in the fingerprint of one's own data, or checks the one that a run has."""
    source = data_setup.own_data(config)
    if source is not None:
        found = data_setup.check_unchanged(config, source)
        with config.unlocked():
            config.dataset.fingerprint = found
