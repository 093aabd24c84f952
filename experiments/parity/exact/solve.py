"""The exact distance to the nearest adversarial image in [0, 1], of linear models and small nets.

Within one pattern of which ReLUs are on, a net is linear, and the least perturbation that stays in
the pattern and makes class k as likely as the label is a linear program in l1 and l-inf (HiGHS,
through scipy's `linprog`) and in l2 the least-distance problem of Lawson and Hanson, which scipy's
`nnls` solves; the least over patterns and classes is the distance. In float64.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog, nnls

NORMS = ("linf", "l2", "l1", "l0")


class Net(NamedTuple):
    """Logits relu((x - 0.5) first + bias) last + shift; without `first`, (x - 0.5) last + shift."""

    last: np.ndarray
    """(H, K), or (D, K) of a linear model."""
    shift: np.ndarray
    """(K,)."""
    first: np.ndarray | None = None
    """(D, H)."""
    bias: np.ndarray | None = None
    """(H,)."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits (N, K) of images (N, ...) in float64."""
        centred = np.asarray(images, np.float64).reshape(len(images), -1) - 0.5
        if self.first is not None and self.bias is not None:
            centred = np.maximum(centred @ self.first + self.bias, 0)
        return centred @ self.last + self.shift


def to_plane(normal: np.ndarray, gap: float, image: np.ndarray, norm: str) -> float:
    """Returns the least size of a d with <normal, d> >= gap and image + d in [0, 1].

    Values move towards the plane: in l-inf by t and in l2 by t times their weight, up to the box;
    in l1 in the order of their weights, in l0 of what they can gain. How far all of them have got
    is piecewise linear in t, or in the number of values, and one piece is solved.

    Args:
        normal: (D,).
        gap: how far the plane is, in units of the logits; at most 0: the image is beyond.
        image: (D,) in [0, 1].
        norm: a name in `NORMS`.

    Returns:
        The size; infinite where the plane does not meet the box.
    """
    weights, room = np.abs(normal), np.where(normal > 0, 1 - image, image)
    moves = (weights > 0) & (room > 0)
    weights, room = weights[moves], room[moves]
    if gap <= 0:
        return 0.0
    if np.sum(weights * room) < gap:
        return np.inf
    if norm in ("l1", "l0"):
        order = np.argsort(-weights * (room if norm == "l0" else 1.0))
        reached = np.cumsum((weights * room)[order])
        last = min(int(np.searchsorted(reached, gap)), len(order) - 1)
        if norm == "l0":
            return last + 1.0
        left = gap - (reached[last - 1] if last else 0.0)
        return float(np.sum(room[order][:last]) + left / weights[order][last])
    pace = weights if norm == "l2" else np.ones_like(weights)
    order = np.argsort(room / pace)
    weights, room, pace = weights[order], room[order], pace[order]
    stopped = np.concatenate([[0.0], np.cumsum(weights * room)])
    moving = np.concatenate([np.cumsum((weights * pace)[::-1])[::-1], [0.0]])
    ends = stopped[:-1] + room / pace * moving[:-1]  # where the next value meets the box
    count = min(int(np.searchsorted(ends, gap)), len(room) - 1)
    t = (gap - stopped[count]) / moving[count]
    if norm == "linf":
        return float(t)
    return float(np.sqrt(np.sum(room[:count] ** 2) + t**2 * np.sum(pace[count:] ** 2)))


def to_polytope(rows: np.ndarray, gaps: np.ndarray, image: np.ndarray, norm: str) -> float:
    """Returns the least size of a d with rows d >= gaps and image + d in [0, 1].

    Args:
        rows: (M, D).
        gaps: (M,).
        image: (D,) in [0, 1].
        norm: `"linf"`, `"l2"` or `"l1"`.

    Returns:
        The size; infinite where there is none.
    """
    scale = np.linalg.norm(rows, axis=1)
    if np.any((scale == 0) & (gaps > 0)):
        return np.inf
    rows, gaps = rows[scale > 0] / scale[scale > 0, None], gaps[scale > 0] / scale[scale > 0]
    width = len(image)
    if norm == "l2":
        return _least_distance(
            np.concatenate([rows, np.eye(width), -np.eye(width)]),
            np.concatenate([gaps, -image, image - 1]),
        )
    if norm == "l1":  # d = up - down
        cost, matrix, limits = np.ones(2 * width), np.concatenate([-rows, rows], axis=1), -gaps
        room = np.concatenate([1 - image, image])
        bounds = np.stack([np.zeros(2 * width), room], axis=1)
    else:  # |d| <= t
        cost, ones = np.concatenate([np.zeros(width), [1.0]]), np.ones((width, 1))
        matrix = np.block(
            [
                [-rows, np.zeros((len(rows), 1))],
                [np.eye(width), -ones],
                [-np.eye(width), -ones],
            ]
        )
        limits = np.concatenate([-gaps, np.zeros(2 * width)])
        low, high = np.concatenate([-image, [0.0]]), np.concatenate([1 - image, [1.0]])
        bounds = np.stack([low, high], axis=1)
    solved = linprog(cost, A_ub=matrix, b_ub=limits, bounds=bounds, method="highs")
    return float(solved.fun) if solved.success else np.inf


def _least_distance(rows: np.ndarray, gaps: np.ndarray) -> float:
    """Returns min ||d||_2 so that rows d >= gaps; infinite where there is no such d.

    Source: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23, algorithm LDP.
    """
    stacked, wanted = np.concatenate([rows.T, gaps[None]]), np.zeros(rows.shape[1] + 1)
    wanted[-1] = 1.0
    multipliers, _ = nnls(stacked, wanted, maxiter=50 * len(gaps))
    residual = stacked @ multipliers - wanted
    if abs(residual[-1]) < 1e-9:
        return np.inf
    step = -residual[:-1] / residual[-1]
    return float(np.linalg.norm(step)) if np.min(rows @ step - gaps) > -1e-6 else np.inf


def distance(net: Net, image: np.ndarray, label: int, norm: str) -> float:
    """Returns the size of the least perturbation in [0, 1] that makes another class as likely.

    Args:
        net: the model.
        image: (...), in [0, 1].
        label: the class it is taken for.
        norm: a name in `NORMS`; of a net with ReLUs not l0, which would be a mixed-integer program.

    Raises:
        ValueError: for l0 of a net with ReLUs.
    """
    image = np.asarray(image, np.float64).ravel()
    others = [k for k in range(len(net.shift)) if k != label]
    leads = (net.last[:, others] - net.last[:, [label]]).T, net.shift[others] - net.shift[label]
    if net.first is None or net.bias is None:
        planes = zip(*leads, strict=True)
        return min(to_plane(row, -(row @ (image - 0.5) + c), image, norm) for row, c in planes)
    if norm == "l0":
        raise ValueError("norm is 'l0'; of a net with ReLUs it is not solved for")
    units, hidden = net.first.T, (image - 0.5) @ net.first + net.bias
    signs = np.where(hidden > 0, 1.0, -1.0)
    turned = np.array(
        [
            to_plane(-s * row, s * h, image, norm)
            for s, row, h in zip(signs, units, hidden, strict=True)
        ]
    )
    return _least_of_patterns(units, hidden, leads, turned, image, norm)


def _least_of_patterns(
    units: np.ndarray,
    hidden: np.ndarray,
    leads: tuple[np.ndarray, np.ndarray],
    turned: np.ndarray,
    image: np.ndarray,
    norm: str,
) -> float:
    """Returns the least distance over the patterns that could have it, nearest first.

    Args:
        units: (H, D), the weights of the ReLUs.
        hidden: (H,), what they get at the image.
        leads: (K - 1, H) and (K - 1,), by how much each other class leads the label.
        turned: (H,), how far it is until a unit turns on, or off.
        image: (D,).
        norm: the norm.
    """
    waiting = []
    for pattern in itertools.product((0.0, 1.0), repeat=len(hidden)):
        is_on = np.array(pattern)
        turns = np.max(turned, where=is_on != (hidden > 0), initial=0.0)
        for weights, shift in zip(*leads, strict=True):
            row, gap = (is_on * weights) @ units, -((is_on * weights) @ hidden + shift)
            # No nearer than any of its planes alone.
            waiting.append((turns, is_on, row, gap))
    least = np.inf
    for turns, is_on, row, gap in sorted(waiting, key=lambda parts: parts[0]):
        if turns >= least:
            break
        if to_plane(row, gap, image, norm) >= least:
            continue
        sides = 2 * is_on - 1
        rows = np.concatenate([sides[:, None] * units, row[None]])
        least = min(least, to_polytope(rows, np.append(-sides * hidden, gap), image, norm))
    return least
