"""Smooth random deformations: flows of random piecewise-affine velocity fields."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Literal

import numpy as np

from rbjax import cpab
from rbjax.options import NotNegative, Range, checked
from rbjax.perturbations.chain import Clipped
from rbjax.typing import Array, Key


@dataclasses.dataclass(frozen=True)
class _Smooth:
    scale: float
    length_scale: float
    field: cpab.Field
    num_steps: int

    def __call__(self, key: Key, image: Array) -> Array:
        factor = self.scale * _smooth_factor(self.field, self.length_scale)
        return cpab.random_warp(key, image, factor, field=self.field, num_steps=self.num_steps)


@dataclasses.dataclass(frozen=True)
class _Gaussian:
    factor: tuple[tuple[float, ...], ...]
    field: cpab.Field
    num_steps: int

    def __call__(self, key: Key, image: Array) -> Array:
        factor = np.asarray(self.factor, np.float32)
        return cpab.random_warp(key, image, factor, field=self.field, num_steps=self.num_steps)


@checked
def diffeomorphism(
    *,
    scale: Annotated[float, Range(low=0.0, high=1.0, unit="widths of the image")] = 0.05,
    length_scale: Annotated[float, Range(low=0.01, high=10.0, unit="widths of the image")] = 0.35,
    num_cells: Annotated[int, Range(low=1, high=16)] = 3,
    boundary: Literal["zero_normal", "zero", "free"] = "zero_normal",
    num_steps: Annotated[int, Range(low=1, high=1000)] = 10,
) -> Clipped:
    """Returns the perturbation that deforms the image smoothly, one to one.

    image(T(p)) at each pixel p, T the flow of a random field: see `rbjax.cpab`. Its velocities at
    the vertices are normal, theta ~ N(0, scale^2 K), and alike at vertices that are near,
    K = exp(-|p - q|^2 / (2 length_scale^2)).

    Args:
        scale: standard deviation of a vertex's velocity each way, in widths of the image: about
            how far things move, at most 1; 0 moves nothing.
        length_scale: over what distance velocities are alike, in widths of the image, 0.01 to 10.
        num_cells: cells each way, 1 to 16.
        boundary: "zero_normal" (nothing crosses the image's border), "zero" (the border stays) or
            "free" (beyond the border its pixels go on).
        num_steps: of the integration, 1 to 1,000; 10 are right to 0.01 pixels of 28 at a scale of
            0.05.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: for an option out of range.

    Source:
        Freifeld et al. 2017, PAMI, the fields and their smooth prior, here on the vertices;
        Hauberg et al. 2016, arXiv 1510.02795, such deformations of images as data.
    """
    field = cpab.field(num_cells, num_cells, boundary)
    return Clipped(_Smooth(scale, length_scale, field, num_steps))


@checked
def gaussian_diffeomorphism(
    covariance: np.ndarray,
    *,
    field: cpab.Field,
    scale: NotNegative = 1.0,
    num_steps: Annotated[int, Range(low=1, high=1000)] = 10,
) -> Clipped:
    """Returns the perturbation that deforms as a given Gaussian says, for example a class's own.

    As `diffeomorphism`, with theta ~ N(0, scale^2 covariance).

    Args:
        covariance: (d, d), symmetric, no eigenvalue below 0.
        field: the space of theta.
        scale: at least 0.
        num_steps: of the integration, 1 to 1,000.

    Returns:
        (key, image (H, W, C)) -> image.

    Raises:
        ValueError: for an option out of range, or a covariance that is none.

    Example:
        >>> from rbjax.cpab import Field
        >>> still = rbjax.perturbations.gaussian_diffeomorphism(
        ...     np.zeros((Field(1, 1).dimension,) * 2), field=Field(1, 1)
        ... )  # of no variance
        >>> image = jnp.arange(16.0).reshape(4, 4, 1) / 16
        >>> bool(jnp.allclose(still(jax.random.key(0), image), image, atol=1e-5))
        True
    """
    covariance = np.asarray(covariance, np.float64)
    size = (field.dimension, field.dimension)
    if covariance.shape != size:
        raise ValueError(f"covariance has shape {covariance.shape}; allowed: {size}, as the field")
    if not np.all(np.isfinite(covariance)) or not np.allclose(covariance, covariance.T):
        raise ValueError("covariance is not finite and symmetric; allowed: E[theta theta^T]")
    smallest, largest = np.linalg.eigvalsh(covariance)[[0, -1]]
    if smallest < -1e-7 * abs(largest):
        raise ValueError(f"covariance has the eigenvalue {smallest:g}; allowed: at least 0")
    factor = scale * cpab.factor(covariance)
    return Clipped(_Gaussian(tuple(tuple(row) for row in factor.tolist()), field, num_steps))


@functools.cache
def _smooth_factor(field: cpab.Field, length_scale: float) -> np.ndarray:
    return cpab.factor(cpab.smooth_covariance(field, length_scale=length_scale))
