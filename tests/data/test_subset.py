"""Training on the examples that a file names."""

import numpy as np
import pytest

from rbjax import atomic
from rbjax.data import subset


def write(folder, **arrays):
    path = folder / "kept.npz"
    atomic.write_npz(path, **arrays)
    return path


def test_the_named_examples_are_kept_in_the_dataset_s_order(tiny, tmp_path):
    path = write(tmp_path, example_ids=np.array([40, 3, 17]), labels=np.zeros(3))
    kept = subset.keep(tiny, path)
    assert kept.example_ids.tolist() == [3, 17, 40]
    np.testing.assert_array_equal(kept.images, tiny.images[[3, 17, 40]])
    np.testing.assert_array_equal(
        kept.class_counts, np.bincount(tiny.labels[[3, 17, 40]], minlength=3)
    )
    assert subset.digest(np.array([40, 3, 17])) == subset.digest(subset.read_ids(path))
    assert subset.digest(np.array([3, 17])) != subset.digest(np.array([3, 17, 40]))


def test_a_changed_file_is_noticed(tiny, tmp_path):
    ids = np.array([1, 2, 3])
    path = write(tmp_path, example_ids=ids[::-1])
    expected = subset.digest(ids)
    assert subset.keep(tiny, path, expected=expected).num_examples == 3
    write(tmp_path, example_ids=np.array([1, 2, 4]))
    with pytest.raises(ValueError, match=f"digest [0-9a-f]{{16}}, not .*{expected}"):
        subset.keep(tiny, path, expected=expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([3, 60, 61]), r"holds 60, which is not among the 60 .* \(of 3 ids 2 are not\)"),
        (np.array([-1]), "holds -1"),
        (np.array([5, 5]), "holds 5 twice"),
        (np.array([0.5]), "is float64"),
        (np.zeros((2, 1), int), r"of shape \(2, 1\)"),
        (np.zeros(0, int), r"of shape \(0,\)"),
    ],
)
def test_wrong_ids_are_named_in_one_line(tiny, tmp_path, ids, message):
    path = write(tmp_path, example_ids=ids)
    with pytest.raises(ValueError, match=message) as error:
        subset.keep(tiny, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_something_else(tiny, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        subset.keep(tiny, tmp_path / "kept.npz")
    path = write(tmp_path, index=np.arange(3))
    for content in (None, b"", b"PK\x03\x04 cut off", b"example_ids = 3"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"not an \.npz file with an array example_ids"):
            subset.keep(tiny, path)
    np.save(tmp_path / "ids.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        subset.keep(tiny, tmp_path / "ids.npy")
