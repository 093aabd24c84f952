"""The figures of the package's structure count what they say."""

from __future__ import annotations

from experiments import structure

PART = """
__all__ = ["exported"]
def _once(): return 1
def _twice(): return _once()
def exported(): return _twice() + _twice()
def public_once(): return exported()
def used_elsewhere(): return public_once() + unused()
def unused(): return used_elsewhere()
"""
OTHER = "from part import used_elsewhere\n"


def test_helpers_used_once_are_counted_with_and_without_an_underscore(tmp_path):
    part, other = tmp_path / "part.py", tmp_path / "other.py"
    part.write_text(PART)
    other.write_text(OTHER)
    helpers = structure.helpers_used_once([part], [other])
    assert helpers == structure.Helpers(private=2, private_once=1, public_once=2)
    alone = structure.helpers_used_once([part])
    assert alone.public_once == 3  # `used_elsewhere` is used once in its module, and nowhere else


def test_an_option_that_is_said_twice_is_named(monkeypatch):
    assert structure.options_said_twice() == []
    group = structure.schema.GROUPS["method"]
    own = {**group.own, "epsilon": None}
    monkeypatch.setitem(structure.schema.GROUPS, "method", group._replace(own=own))
    assert structure.options_said_twice() == ["method.epsilon"]
