"""The exact distances are known ones, and the table is made of few images."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.parity.exact import __main__ as program
from experiments.parity.exact import measures, problems, strangers, table
from experiments.parity.exact.measures import MULTIPLES, Row
from experiments.parity.exact.solve import Net, distance, to_plane, to_polytope

NORMAL = np.array([3.0, -1.0, 2.0, 0.0])
GREY, EDGE = np.full(4, 0.5), np.array([1.0, 0.1, 0.5, 0.5])


@pytest.mark.parametrize(
    ("image", "gap", "known"),
    [
        (GREY, 1.2, {"linf": 0.2, "l2": 1.2 / np.sqrt(14), "l1": 0.4, "l0": 1}),
        # The first value has no room, the second 0.1.
        (EDGE, 0.8, {"linf": 0.35, "l2": np.hypot(0.1, 0.35), "l1": 0.4, "l0": 1}),
        (EDGE, 1.05, {"linf": 0.475, "l2": np.hypot(0.1, 0.475), "l1": 0.55, "l0": 2}),
        (EDGE, 1.1, {"linf": 0.5, "l2": np.hypot(0.1, 0.5), "l1": 0.6, "l0": 2}),
        (EDGE, 1.2, dict.fromkeys(("linf", "l2", "l1", "l0"), np.inf)),
        (EDGE, -0.1, dict.fromkeys(("linf", "l2", "l1", "l0"), 0)),
    ],
)
def test_distances_to_a_plane(image, gap, known):
    assert {norm: to_plane(NORMAL, gap, image, norm) for norm in known} == pytest.approx(known)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_programs_agree_with_closed_forms(norm):
    rng = np.random.default_rng(0)
    for edge in (False, True) * 4:
        row, image = rng.standard_normal(12), rng.random(12)
        image = np.round(image) if edge else image
        room = float(np.where(row > 0, 1 - image, image) @ np.abs(row))
        for share in (0.1, 0.6, 0.95):
            exact = to_plane(row, share * room, image, norm)
            # A plane that is met anyway changes nothing.
            rows, gaps = np.stack([row, 2 * row]), np.array([share, share]) * room
            assert to_polytope(rows, gaps, image, norm) == pytest.approx(exact, rel=1e-6)
        assert to_polytope(row[None], np.array([1.01 * room]), image, norm) == np.inf


def turned_off(norm: str) -> dict[str, tuple[float, float]]:
    """Returns distances of nets of ReLUs of a = <w, x - 0.5>, with what they are."""
    w = np.array([[1.0], [-0.5], [0.25]])
    both, image = np.concatenate([w, -w], axis=1), np.array([0.6, 0.5, 0.2])
    a = float((image - 0.5) @ w[:, 0])

    def least(*ways: tuple[float, float]) -> float:
        return min(to_plane(sign * w[:, 0], gap, image, norm) for sign, gap in ways)

    # z_1 = |a| and z_0 = 0.2, or 0.01: the boundary is on both sides, or on one.
    size = Net(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.2, 0.0]), both, np.zeros(2))
    near = size._replace(shift=np.array([0.01, 0.0]))
    # z_1 = 2 relu(a - 0.3), z_0 = 0.1 and z_2 = relu(-0.2 - a): flat at the image.
    flat = Net(
        np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([0.1, 0.0, 0.0]),
        both,
        np.array([-0.3, -0.2]),
    )
    return {
        "both sides": (distance(size, image, 0, norm), least((1, 0.2 - a), (-1, 0.2 + a))),
        "back": (distance(near, image, 1, norm), least((-1, abs(a) - 0.01), (1, 0.01 + abs(a)))),
        "flat": (distance(flat, image, 0, norm), least((1, 0.35 - a), (-1, 0.3 + a))),
    }


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_distances_of_small_nets(norm):
    for case, (found, known) in turned_off(norm).items():
        assert found == pytest.approx(known, rel=1e-6), case
    # z_1 = relu(d_0 + d_1) - 10 relu(d_1) and z_0 = 0.2: the second value only does harm.
    net = Net(
        np.array([[0.0, 1.0], [0.0, -10.0]]),
        np.array([0.2, 0.0]),
        np.array([[1.0, 0.0], [1.0, 1.0]]),
        np.zeros(2),
    )
    assert distance(net, np.full(2, 0.5), 0, norm) == pytest.approx(0.2, rel=1e-6)


def test_no_mixed_integer_programs():
    net = Net(np.ones((1, 2)), np.zeros(2), np.ones((2, 1)), np.zeros(1))
    with pytest.raises(ValueError, match="l0"):
        distance(net, np.full(2, 0.5), 0, "l0")


def test_ratios_and_multiples():
    images, exact = np.zeros((3, 2)), np.array([0.5, 0.5, 0.5])
    moved = np.array([[0.5, 0.0], [1.0, 0.0], [0.1, 0.0]])
    fooled = np.array([True, True, False])
    found = measures.ratios(moved, images, fooled, exact, "linf")
    assert found.tolist() == [1, 2, np.inf]
    with pytest.raises(RuntimeError, match=r"at 0.2000 of the exact"):
        measures.ratios(moved, images, np.ones(3, bool), exact, "linf")
    with pytest.raises(RuntimeError, match="outside"):
        measures.ratios(3 * moved, images, fooled, exact, "linf")
    needed = np.array([0.9, 1.2, 1.21, 4.9, 5.0, 7.0])
    multiples = measures.smallest_multiples(lambda rows, m: m >= needed[rows], 6)
    assert multiples.tolist() == [MULTIPLES[0], 1.2, 1.3, 5, 5, np.inf]
    assert measures.of_share(np.append(np.arange(1.0, 10.0), np.inf)) == 9
    assert measures.of_share(np.append(np.arange(1.0, 9.0), [np.inf] * 2)) == np.inf


def test_what_is_behind_a_peer():
    model = "linear, 2 classes"

    def row(library, called, smallest, *ratios):
        return Row(library, "fmn", called, "l2", smallest, {model: list(ratios)})

    own = row("rbjax", "fmn", True, 1.0, 1.012, None, 1.012)
    assert table.behind([own, row("foolbox", "FMN", True, 1.0, 1.0, 1.005, 1.5)]) == []
    best = row("ART", "F", True, 1.0, 1.0, 1.0, 1.0)
    rows = [own, best, row("secml-torch", "G", True, *[None] * 4)]
    assert table.behind(rows) == [(own, best, model)]
    kept = {
        "images": {"num_images": 1, "seed": 0},
        "made": {"rbjax": {"options": "", "date": "today", "versions": {"jax": "1"}}},
        "rows": {row.key(): row._asdict() for row in rows},
    }
    text = table.report(kept)
    assert "| fmn | rbjax | 1.012, 1.01, 1 missed | 1.000 | 1.012 | none | 1.012 |" in text
    assert "- fmn in l2, linear, 2 classes: 1.012, where ART's F has 1" in text


def test_the_table_of_a_few_images(tmp_path):
    options = ["--only", "deepfool", "--models", "linear, 2 classes", "--num-images=1"]
    program.main([*options, f"--folder={tmp_path}"])
    text = (tmp_path / "results.md").read_text()
    found = [line.split(" | ") for line in text.splitlines() if line.startswith("| deepfool")]
    assert len(found) == 2
    assert all(1 <= float(cells[2].split(",")[0]) < 1.03 for cells in found), found


def test_what_a_strangers_model_does_to_an_attack():
    problem = problems.make("linear, 10 classes", 1, 0)
    numbers = [list(strangers.ANSWERS).index(kind) for kind in ("plain logits", "times 1e4")]
    plain, huge = (strangers.measure("fgsm", problem, number, 1) for number in numbers)
    assert plain.fooled.all()
    assert plain.alone
    assert not huge.fooled.all()  # cross-entropy has no gradient
    cells = {"fgsm": [huge if kind == "times 1e4" else plain for kind in strangers.ANSWERS]}
    why = [["saturation"] if kind == "times 1e4" else [] for kind in strangers.ANSWERS]
    assert "Not explained: none." in strangers.report(cells, why, 1)
    text = strangers.report(cells, [[]] * len(why), 1)
    assert "| fgsm | 4 of 4 |" in text
    assert "Not explained: fgsm on times 1e4." in text
