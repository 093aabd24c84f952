"""Four cells, and the list that they tell of each run."""

import pytest

from tests.sweep.grids import four


@pytest.fixture
def calls():
    return []


@pytest.fixture
def cells(calls):
    return four(calls)
