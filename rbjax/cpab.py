"""Smooth deformations: flows of continuous piecewise-affine velocity fields (CPAB).

The unit square is cut into nx x ny cells and each cell into four triangles by its centre. A field
is affine on every triangle and continuous, so its velocities at the vertices (corners of the cells,
then their centres) determine it: theta holds those that the boundary leaves free. A flow of such
a field is a diffeomorphism, and the flow of -theta is its inverse.

A point is (x, y) in [0, 1]^2, x to the right and y down, a velocity in widths of the square for one
unit of time; flows run for one unit. Pixel (i, j) of H x W is the point ((j + 1/2) / W,
(i + 1/2) / H).

Source: Freifeld, Hauberg, Batmanghelich and Fisher, "Transformations based on continuous
piecewise-affine velocity fields", PAMI 2017. There a field is a vector in the null space of its
constraints; the space here is the same one, in the basis of hat functions.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.geometry import read_at
from rbjax.inputs import check_integer
from rbjax.tables import lookup
from rbjax.typing import Array, Key

BOUNDARIES = {
    "free": "none",
    "zero_normal": "the velocity across the square's border is 0: the square is mapped onto itself",
    "zero": "the velocity on the square's border is 0: the border stays where it is",
}
"""The constraint of each boundary."""


class Field(NamedTuple):
    """The space that velocity fields come from."""

    columns: int = 3
    """nx, cells across."""
    rows: int = 3
    """ny, cells down."""
    boundary: str = "zero_normal"
    """One of BOUNDARIES."""

    @property
    def dimension(self) -> int:
        """d, the length of theta; with no constraint 2 ((nx + 1) (ny + 1) + nx ny)."""
        return len(components(self))


def field(columns: int, rows: int, boundary: str) -> Field:
    """Returns a Field after checking its values.

    Args:
        columns: 1 to 32.
        rows: 1 to 32.
        boundary: one of BOUNDARIES.

    Returns:
        The Field.

    Raises:
        ValueError: for a value out of range.
    """
    lookup(BOUNDARIES, boundary, what="boundary")
    return Field(
        check_integer("columns", columns, low=1, high=32),
        check_integer("rows", rows, low=1, high=32),
        boundary,
    )


@functools.cache
def vertices(field: Field) -> np.ndarray:
    """Returns where the vertices are: corners of the cells, then their centres, row by row.

    Args:
        field: the space.

    Returns:
        (V, 2) float64 points, V = (nx + 1) (ny + 1) + nx ny.
    """
    nx, ny = field.columns, field.rows
    corners = [(i / nx, j / ny) for j in range(ny + 1) for i in range(nx + 1)]
    centres = [((i + 0.5) / nx, (j + 0.5) / ny) for j in range(ny) for i in range(nx)]
    return np.array(corners + centres)


@functools.cache
def components(field: Field) -> tuple[tuple[int, int], ...]:
    """Returns the meaning of each number of theta.

    Args:
        field: the space.

    Returns:
        d pairs: a row of `vertices`, and 0 for its velocity to the right or 1 for that down.
    """
    at_border = (vertices(field) == 0) | (vertices(field) == 1)
    fixed = {
        "free": np.zeros_like(at_border),
        "zero_normal": at_border,
        "zero": np.broadcast_to(at_border.any(axis=1, keepdims=True), at_border.shape),
    }[field.boundary]
    return tuple((int(vertex), int(axis)) for vertex, axis in np.argwhere(~fixed))


def velocity(field: Field, theta: Array, points: Array) -> Array:
    """Returns the velocity at some points: sum over vertices of hat_k(p) v_k.

    Outside of the square it is that of the square's nearest point.

    Args:
        field: the space.
        theta: (d,).
        points: (..., 2).

    Returns:
        (..., 2).
    """
    return jnp.stack(_velocity(field, theta, points[..., 0], points[..., 1]), axis=-1)


def integrate(field: Field, theta: Array, points: Array, *, num_steps: int = 20) -> Array:
    """Returns where the flow takes points in one unit of time, by the midpoint rule (RK2).

    Args:
        field: the space.
        theta: (d,).
        points: (..., 2).
        num_steps: at least 1; the error falls with its square.

    Returns:
        (..., 2).
    """
    x, y = _integrate(field, theta, points[..., 0], points[..., 1], num_steps)
    return jnp.stack([x, y], axis=-1)


def warp(field: Field, theta: Array, image: Array, *, num_steps: int = 20) -> Array:
    """Returns `image(T(p))` at every pixel p, T the flow; bilinear, edge pixels repeated outside.

    With -theta it is undone, up to what interpolation smooths.

    Args:
        field: the space.
        theta: (d,) float32.
        image: (H, W, C), floating.
        num_steps: of the integration, at least 1.

    Returns:
        (H, W, C), of the image's dtype, within the image's own range.
    """
    height, width, _ = image.shape
    x, y = np.meshgrid(
        (np.arange(width, dtype=np.float32) + 0.5) / width,
        (np.arange(height, dtype=np.float32) + 0.5) / height,
    )
    x, y = _integrate(field, theta, jnp.asarray(x.ravel()), jnp.asarray(y.ravel()), num_steps)
    x, y = (jnp.clip(p * n - 0.5, 0, n - 1) for p, n in ((x, width), (y, height)))
    return read_at(image, y, x).reshape(image.shape)


def smooth_covariance(field: Field, *, length_scale: float) -> np.ndarray:
    """Returns K, the covariance of smooth fields of unit variance at every vertex.

    K = exp(-|p - q|^2 / (2 length_scale^2)) between the same component of two vertices p and q,
    0 between the two components.

    Args:
        field: the space.
        length_scale: in widths of the square, above 0.

    Returns:
        (d, d) float64.
    """
    vertex, axis = np.array(components(field)).T
    at = vertices(field)[vertex]
    squares = np.sum((at[:, None] - at[None]) ** 2, axis=-1)
    return np.exp(-squares / (2 * length_scale**2)) * (axis[:, None] == axis[None])


def factor(covariance: np.ndarray) -> np.ndarray:
    """Returns the lower triangular L, L L^T the covariance and 1e-6 of its mean variance on top.

    Args:
        covariance: (d, d), symmetric, no eigenvalue below 0 but by rounding.

    Returns:
        (d, d) float32; all 0 for a covariance of 0.
    """
    covariance = np.asarray(covariance, np.float64)
    ridge = 1e-6 * np.trace(covariance) / len(covariance)
    if ridge == 0:
        return np.zeros(covariance.shape, np.float32)
    return np.linalg.cholesky(covariance + ridge * np.eye(len(covariance))).astype(np.float32)


def random_warp(
    key: Key, image: Array, factor: Array | np.ndarray, *, field: Field, num_steps: int = 20
) -> Array:
    """Returns the image deformed by a random field, theta ~ N(0, L L^T).

    Args:
        key: one key.
        image: (H, W, C), floating.
        factor: L, (d, d).
        field: the space.
        num_steps: of the integration, at least 1.

    Returns:
        (H, W, C), of the image's dtype, within the image's own range.
    """
    normal = prng.normal(key, (field.dimension,))
    theta = jnp.matmul(jnp.asarray(factor, jnp.float32), normal, precision="highest")
    return warp(field, theta, image, num_steps=num_steps)


def _integrate(
    field: Field, theta: Array, x: Array, y: Array, num_steps: int
) -> tuple[Array, Array]:
    def step(_: Array | int, at: tuple[Array, Array]) -> tuple[Array, Array]:
        x, y = at
        along, down = _velocity(field, theta, x, y)
        half = 0.5 / num_steps
        along, down = _velocity(field, theta, x + half * along, y + half * down)
        return x + along / num_steps, y + down / num_steps

    # Where it is differentiated, hats are computed again rather than kept for every step.
    step = jax.checkpoint(step, prevent_cse=False)
    return jax.lax.fori_loop(0, num_steps, step, (x, y))


def _velocity(field: Field, theta: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Returns both components; all hats at all points, which vectorises, where gathers do not.

    In units of cells the hat of a corner is max(0, 1 - |du| - |dv|), and that of a centre
    max(0, 1 - 2 max(|du|, |dv|)): both are linear on each triangle.
    """
    nx, ny = field.columns, field.rows
    u, v = jnp.clip(x, 0.0, 1.0) * nx, jnp.clip(y, 0.0, 1.0) * ny
    num_corners = (nx + 1) * (ny + 1)
    near = [1 - jnp.abs(u - i) for i in range(nx + 1)]
    below = [jnp.abs(v - j) for j in range(ny + 1)]
    across = [jnp.abs(u - (i + 0.5)) for i in range(nx)]
    along = [jnp.abs(v - (j + 0.5)) for j in range(ny)]

    @functools.cache
    def hat(vertex: int) -> Array:
        if vertex < num_corners:
            j, i = divmod(vertex, nx + 1)
            return jnp.maximum(near[i] - below[j], 0)
        j, i = divmod(vertex - num_corners, nx)
        return jnp.maximum(1 - 2 * jnp.maximum(across[i], along[j]), 0)

    total = [jnp.zeros_like(u), jnp.zeros_like(v)]
    for number, (vertex, axis) in enumerate(components(field)):
        total[axis] = total[axis] + theta[number] * hat(vertex)
    return total[0], total[1]
