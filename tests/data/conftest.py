"""Real data where they are, and small stand-ins where they are not."""

from collections.abc import Callable

import numpy as np
import pytest

from rbjax.data import Dataset, DatasetInfo, from_arrays, storage


@pytest.fixture
def require_dataset() -> Callable[[str], None]:
    def require(name: str) -> None:
        if storage.find(name) is None:
            pytest.skip(f"{name} is not in {storage.default_data_dir()}")

    return require


@pytest.fixture
def tiny_info() -> DatasetInfo:
    return DatasetInfo(
        name="tiny",
        image_shape=(4, 4, 1),
        class_names=("a", "b", "c"),
        num_examples={"train": 60, "test": 0},
        mean=(0.5,),
        std=(0.25,),
        source="made up",
        licence="none",
    )


@pytest.fixture
def tiny_arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4, 1), np.uint8)
    images[1] = images[0]  # equal examples: same label, same pixels
    return images, np.repeat([0, 1, 2], [30, 20, 10])


@pytest.fixture
def tiny(tiny_info: DatasetInfo, tiny_arrays: tuple[np.ndarray, np.ndarray]) -> Dataset:
    return from_arrays(tiny_info, "train", *tiny_arrays)
