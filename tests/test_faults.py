"""The planted faults are about code and tests that exist; `python tests/faults.py` plants them."""

import pytest

from tests import faults


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.breaks)
def test_a_fault_changes_one_place_and_names_its_tests(fault):
    assert faults.the_file_with(fault.old, faults.ROOT / "rbjax").suffix == ".py"
    assert len(faults.node_ids(fault)) == len(fault.tests) > 0
    assert fault.new != fault.old


def test_what_stands_twice_or_nowhere_is_named():
    for text in ("import jax", "this text stands nowhere"):
        with pytest.raises(ValueError, match="it must stand in one place"):
            faults.the_file_with(text, faults.ROOT / "rbjax")
