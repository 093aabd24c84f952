"""What `run_attacks` says: as it goes on, and of what a person gave wrongly."""

from __future__ import annotations

import re

import jax
import pytest

from rbjax import attacks
from tests.attacks.test_suite import ATTACKS, IDS, IMAGES, KEY, LABELS, LOGITS_FN, Fixed, K, N, run


def test_what_is_told(capsys):
    told, ended = [], []
    result = run(
        batch_size=32,
        devices=jax.local_devices()[:1],
        progress=told.append,
        finished=lambda label, so_far: ended.append((label, list(so_far.outcomes))),
    )
    assert ended == [("clean", []), ("pgd", ["pgd"]), ("l2", ["pgd", "l2"])]
    mine = [state for state in told if state.task == "pgd"]
    assert [state.done for state in mine] == [0, 32, 64, N]
    assert {state.of for state in mine} == {N}
    assert mine[-1].figures["robust"] == result.outcomes["pgd"].correct.sum()
    with attacks.progress_bar() as progress:  # shows nothing where there is no terminal
        run(progress=progress)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": {"pgd": "pgd"}}, "attacks['pgd'] is 'pgd'; it must be an attack"),
        ({"attacks": {"clean": ATTACKS["pgd"]}}, "'clean' means something else in results"),
        ({"attacks": {"worst": ATTACKS["pgd"]}}, "'worst' means something else in results"),
        ({"targets": {"pdg": LABELS}}, "targets names 'pdg'; allowed: pgd, l2; did you mean 'pgd'"),
        ({"targets": {"pgd": LABELS[:3]}}, "targets['pgd'] has shape (3,)"),
        ({"targets": {"pgd": LABELS + K}}, "targets['pgd'] holds"),
        ({"targets": {"pgd": LABELS}}, "attacks['pgd'] has no image to attack"),
        ({"counted": {"l2": LABELS}}, "counted['l2'] is int32 of shape (75,)"),
        ({"counted": {"l2": LABELS > K}}, "attacks['l2'] has no image to attack"),
        ({"labels": LABELS + 1}, "labels holds 4; allowed: 0 to 3"),
        ({"example_ids": IDS[:4]}, "example_ids has shape (4,)"),
        ({"images": IMAGES / 100}, "must lie in [0, 1]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images holds no image"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"devices": []}, "devices is empty"),
        (
            {"attacks": {"mine": Fixed(LABELS)}, "targets": {"mine": (LABELS + 1) % K}},
            "targets['mine']: Fixed takes no targets",
        ),
        (
            {"attacks": {"mine": Fixed(LABELS[:4])}},
            "attacks['mine'] gives predictions of shape (4,); they must be (75,)",
        ),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(**options)


def test_one_key_is_asked_for():
    keys = jax.random.split(KEY, N)
    with pytest.raises(ValueError, match="it must be one key"):
        attacks.run_attacks(LOGITS_FN, keys, IMAGES, LABELS, attacks=ATTACKS)
