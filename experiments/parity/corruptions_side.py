"""What scikit-image, OpenCV and imagecorruptions make of a few images: corruptions' fixture.

    python -m experiments.parity.corruptions_side tests/peers/fixtures/corruptions.npz

Run from the repository's root in a Python of its own that has them and not rbjax. The images are
smooth noise, of CIFAR's size; constants are ImageNet-C's. Of a corruption without chance the images
are kept as they come out, severities 1 to 5. Where the library draws, so that no two draws agree,
kept are means over images and draws at severity 3: of the change, its size, and the correlation
between neighbours' changes. What the installed libraries no longer run of imagecorruptions (fog,
glass and Gaussian blur) is made by scikit-image, as the Gaussian blur, or left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import warnings
from pathlib import Path

import numpy as np

warnings.simplefilter("ignore")  # of pkg_resources, which imagecorruptions imports
import cv2  # noqa: E402  # pyright: ignore[reportMissingImports]
import imagecorruptions  # noqa: E402  # pyright: ignore[reportMissingImports]
import skimage  # noqa: E402  # pyright: ignore[reportMissingImports]

NUM_IMAGES, NUM_DRAWS, SEVERITY = 3, 200, 3

EXACT = (
    "brightness",
    "contrast",
    "saturate",
    "defocus_blur",
    "zoom_blur",
    "pixelate",
    "jpeg_compression",
)
"""Corruptions without chance that imagecorruptions makes as ImageNet-C does."""

DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur")
"""Those with chance; its elastic transform is another one than ImageNet-C's."""

SIGMAS = (1, 2, 3, 4, 6)
"""ImageNet-C's Gaussian blurs."""


def make_images() -> np.ndarray:
    """Returns images with detail of all sizes, some of it grey, black or white."""
    rng = np.random.default_rng(0)
    total = np.zeros((NUM_IMAGES, 32, 32, 3))
    for sigma in (0.5, 2, 6):
        noise = rng.normal(size=total.shape)
        total += sigma * np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in noise])
    images = np.clip(128 + 60 * total, 0, 255).astype(np.uint8)
    images[0, :4] = images[0, :4, :, :1]
    images[0, 4:6], images[0, 6:8] = 0, 255
    return images


def statistics(images: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """Returns mean change, mean size of the change and correlation of neighbours' changes.

    Args:
        images: (N, H, W, C) in levels.
        corrupted: (draws, N, H, W, C) in levels.

    Returns:
        (3,); levels, levels and between -1 and 1.
    """
    change = corrupted.astype(float) - images
    here, beside = change[..., :-1, :].ravel(), change[..., 1:, :].ravel()
    return np.array([change.mean(), np.abs(change).mean(), np.corrcoef(here, beside)[0, 1]])


def corrupt(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Returns imagecorruptions' images of 8 bits."""
    made = [imagecorruptions.corrupt(i, severity=severity, corruption_name=name) for i in images]
    return np.stack(made).astype(np.uint8)


def main() -> None:
    """Writes the fixture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    images = make_images()
    found: dict[str, np.ndarray] = {"images": images}
    for name in EXACT:
        found[name] = np.stack([corrupt(images, name, s) for s in range(1, 6)])
    found["gaussian_blur"] = np.stack(
        [
            [255 * skimage.filters.gaussian(i / 255, sigma=s, channel_axis=-1) for i in images]
            for s in SIGMAS
        ]
    ).astype(np.uint8)
    np.random.seed(0)  # noqa: NPY002 - what the library draws from
    for name in DRAWN:
        draws = np.stack([corrupt(images, name, SEVERITY) for _ in range(NUM_DRAWS)])
        found[name] = statistics(images, draws)
    versions = {
        "imagecorruptions": importlib.metadata.version("imagecorruptions"),
        "scikit-image": skimage.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }
    found["versions"] = np.array([f"{name} {version}" for name, version in versions.items()])
    np.savez_compressed(output, **found)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
