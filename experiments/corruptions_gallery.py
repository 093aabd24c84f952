"""Draws one image under every corruption of a profile: corruptions in rows, severities in columns.

    python -m experiments.corruptions_gallery --out=cifar.png --profile=cifar --dataset=cifar10
    python -m experiments.corruptions_gallery --out=mnist.png --profile=mnist --dataset=mnist

The image itself comes first; in the profile "mnist" what MNIST-C publishes is framed.
"""

from __future__ import annotations

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from rbjax import atomic, console, corruptions, data, prng

_GAP = 4
_LABEL_WIDTH = 116
_PAPER, _INK, _FRAME = (255, 255, 255), (0, 0, 0), (214, 39, 40)
_NUM_SEVERITIES = 5


@console.steady()
def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description="One image under every corruption of a profile.")
    parser.add_argument("--out", required=True, help="the .png file")
    parser.add_argument("--profile", default="cifar", choices=corruptions.PROFILES)
    parser.add_argument("--dataset", default="cifar10", help="a name in rbjax.data.DATASETS")
    parser.add_argument("--index", type=int, default=0, help="row of the test split, as loaded")
    parser.add_argument("--seed", type=int, default=0, help="of what the corruptions draw")
    parser.add_argument("--enlarged", type=int, default=2, help="how many times, 1 to 8")
    parser.add_argument("--data_dir", help="where TFDS keeps the dataset")
    options = parser.parse_args()
    if not 1 <= options.enlarged <= 8:
        parser.error(f"--enlarged is {options.enlarged}; allowed: 1 to 8")
    try:
        test = data.load(options.dataset, "test", data_dir=options.data_dir)
    except ValueError as error:
        parser.error(str(error))
    if not 0 <= options.index < len(test.labels):
        parser.error(f"--index is {options.index}; allowed: 0 to {len(test.labels) - 1}")
    image = jnp.asarray(test.images[options.index], jnp.float32) / 255
    rows = corrupted(image, options.profile, seed=options.seed)
    picture = draw(np.asarray(image), rows, options.profile, enlarged=options.enlarged)
    with atomic.replace(options.out) as file:
        picture.quantize(256).save(file, format="png", optimize=True)
    print(options.out)


def corrupted(image: jax.Array, profile: str, *, seed: int) -> dict[str, list[np.ndarray]]:
    """Returns the image under every corruption that is published for a profile.

    Args:
        image: (H, W, C) in [0, 1].
        profile: one of `corruptions.PROFILES`.
        seed: of the key; every corruption draws the same numbers at each severity.

    Returns:
        By name, the images of its severities, each (H, W, C) in [0, 1].
    """
    key = prng.key(seed)
    rows = {}
    for number, name in enumerate(corruptions.names(profile)):
        severities = range(1, len(corruptions.CONSTANTS[profile][name]) + 1)
        made = [corruptions.create(name, severity=s, profile=profile) for s in severities]
        row_key = prng.fold_in(key, number)
        rows[name] = [np.asarray(jax.jit(one)(row_key, image)) for one in made]
    return rows


def draw(
    image: np.ndarray, rows: dict[str, list[np.ndarray]], profile: str, *, enlarged: int
) -> Image.Image:
    """Returns the picture: names on the left, the image, then its severities.

    Args:
        image: (H, W, C) in [0, 1].
        rows: what `corrupted` returns.
        profile: one of `corruptions.PROFILES`.
        enlarged: pixels that a pixel is drawn wide and high.

    Returns:
        An RGB picture.
    """
    height, width = (enlarged * side + _GAP for side in image.shape[:2])
    size = (_LABEL_WIDTH + width * (1 + _NUM_SEVERITIES), 16 + height * len(rows))
    picture = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(picture)
    tile = functools.partial(_tile, enlarged=enlarged)
    for column, title in enumerate(("image", *map(str, range(1, _NUM_SEVERITIES + 1)))):
        pen.text((_LABEL_WIDTH + column * width + width // 3, 2), title, _INK)
    for row, (name, images) in enumerate(rows.items()):
        top = 16 + row * height
        pen.text((4, top + height // 2 - 8), name, _INK)
        published = corruptions.severities(name, profile)
        for column, one in enumerate([image, *images]):
            left = _LABEL_WIDTH + column * width
            if profile == "mnist" and column in published:
                frame = (left - 2, top - 2, left + width - 3, top + height - 3)
                pen.rectangle(frame, _FRAME)
            picture.paste(tile(one), (left, top))
    return picture


def _tile(image: np.ndarray, *, enlarged: int) -> Image.Image:
    pixels = np.rint(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(np.uint8)
    return Image.fromarray(pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1))


if __name__ == "__main__":
    main()
