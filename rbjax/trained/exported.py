"""A trained model as a program of its own, which runs without rbjax and Flax."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from rbjax import atomic
from rbjax.errors import nearest, spelled
from rbjax.inputs import check_integer
from rbjax.trained.model_file import writable
from rbjax.trained.run import Run

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    run: Run,
    path: str | os.PathLike[str],
    *,
    batch_size: int | None = None,
    platforms: str | Sequence[str] = ("cpu", "cuda", "tpu"),
    vjp_order: int = 0,
) -> Path:
    """Exports the logits function of a trained model by `jax.export`, its weights inside.

    `jax.export.deserialize(Path("model.jaxexport").read_bytes()).call(images)`, with nothing but
    JAX, gives its logits; a program is readable for at least six months of JAX's releases.

    Args:
        run: as from `rbjax.load`.
        path: of the file; its folder must exist, and a file in its place is replaced.
        batch_size: how many images a call takes, at least 1; None: any number.
        platforms: where it runs, of "cpu", "cuda", "rocm" and "tpu".
        vjp_order: how often it can be differentiated; 1 is what gradient attacks need, and holds
            the weights twice.

    Returns:
        The path; the program is (B, H, W, C) float32 in [0, 1] -> (B, K) float32.

    Raises:
        ValueError: if it cannot be written there, or for an unknown platform or none.
    """
    place = writable(run, path)
    platforms = (platforms,) if isinstance(platforms, str) else tuple(platforms)
    if not platforms:
        raise ValueError(f"platforms = (): names none; allowed: {', '.join(_PLATFORMS)}")
    for platform in platforms:
        if platform not in _PLATFORMS:
            raise ValueError(
                f"platforms = {spelled(platforms)}: {platform!r} is unknown; allowed: "
                f"{', '.join(_PLATFORMS)}{nearest(platform, _PLATFORMS)}"
            )
    check_integer("vjp_order", vjp_order, low=0)
    if batch_size is None:
        (rows,) = jax_export.symbolic_shape("b")
    else:
        rows = check_integer("batch_size", batch_size, low=1)
    images = jax.ShapeDtypeStruct((rows, *run.model.image_shape), jnp.float32)
    apply, variables = run.model.apply, run.variables
    compiled = jax.jit(lambda images: apply(variables, images))
    program = jax_export.export(compiled, platforms=platforms)(images)
    content = program.serialize(vjp_order=vjp_order)
    with atomic.replace(place) as file:
        file.write(content)
    return place
