"""What one looks at besides `plot`: heat maps, curves, galleries; a function a kind of picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rbjax import corruptions, perturbations
from rbjax.analysis import measured
from rbjax.errors import a_type
from rbjax.inputs import check_integer, names_of, to_float
from rbjax.paths import of_a_file
from rbjax.typing import Array, Key, Perturbation

Names = Sequence[str] | None
PathLike = str | os.PathLike[str]


def plot_heat_map(result: Any, path: PathLike, *, class_names: Names = None) -> None:
    """Draws classes in rows and attacks in columns, accuracy as colour.

    Args:
        result: of `run_attacks`, `evaluate` or `read_report`.
        path: the picture, `.png`, `.pdf` or `.svg`.
        class_names: K names; None: the numbers, or what the result knows.

    Raises:
        ValueError: for another result, another number of names, or another suffix.
    """
    from rbjax.analysis import classes  # matplotlib takes a second to import

    found = measured.attacked(result)
    columns = {one.label: one.classes for one in found}
    classes.plot_heat_map(of_a_file(path), columns, **_said(result, found, class_names))


def plot_epsilons(result: Any, path: PathLike, *, class_names: Names = None) -> None:
    """Draws robust accuracy against epsilon, with 95 % intervals.

    Attacks whose labels differ in numbers alone ("pgd 2/255", "pgd 4/255"), and that are alike in
    name, norm, steps, images that count and targets, are one curve, which begins with the clean
    accuracy at 0. A single one is drawn with the curve of each class; of several the weakest class
    is dashed. Norms are panels. `run_attacks` knows no names, only labels.

    Args:
        result: of `run_attacks`, `evaluate` or `read_report`.
        path: the picture, `.png`, `.pdf` or `.svg`.
        class_names: K names; None: the numbers, or what the result knows.

    Raises:
        ValueError: for another result, no attack at several epsilons, another number of names, or
            another suffix.
    """
    from rbjax.analysis import curves

    found = measured.attacked(result)
    by_norm = measured.over_epsilon(found)
    names = _names(result, class_names, len(found[0].count))
    said: Any = {"class_names": names, "caption": measured.radii(by_norm)}
    curves.plot_epsilons(of_a_file(path), by_norm, **said)


def plot_passes(result: Any, path: PathLike, *, class_names: Names = None) -> None:
    """Draws robust accuracy against passes through the model: what more effort of an attack gains.

    Attacks whose labels differ in numbers alone ("pgd 10", "pgd 100"), and that are alike in name,
    norm, epsilon, images that count and targets, are one curve.

    Args:
        result: of `run_attacks`, `evaluate` or `read_report`.
        path: the picture, `.png`, `.pdf` or `.svg`.
        class_names: K names; None: the numbers, or what the result knows.

    Raises:
        ValueError: for another result, fewer than two attacks whose passes are counted, another
            number of names, or another suffix.
    """
    from rbjax.analysis import curves

    found = measured.attacked(result)
    families = measured.over_passes(found)
    curves.plot_passes(of_a_file(path), families, **_said(result, found, class_names))


def plot_severities(result: Any, path: PathLike, *, class_names: Names = None) -> None:
    """Draws accuracy against severity, a panel a corruption, from 0, which is clean, on.

    Black is all images, orange the weakest class, grey each other one or, of more than 20 classes,
    the band from the 10th to the 90th percentile.

    Args:
        result: of `run_corruptions`, or `evaluate` or `read_report` with corruptions.
        path: the picture, `.png`, `.pdf` or `.svg`.
        class_names: K names; None: the numbers, or what the result knows.

    Raises:
        ValueError: for another result, corruptions of one severity each, another number of names,
            or another suffix.
    """
    from rbjax.analysis import curves

    found, caption = measured.corrupted(result)
    names = _names(result, class_names, found[0].classes.shape[1])
    said: Any = {"class_names": names, "caption": caption}
    curves.plot_severities(of_a_file(path), found, **said)


def gallery(
    key: Key,
    image: np.ndarray | Array,
    path: PathLike,
    *,
    rows: Mapping[str, Perturbation | Sequence[Perturbation] | np.ndarray | Array] | None = None,
    profile: str | None = None,
    num_draws: int = 5,
) -> None:
    """Draws one image under perturbations, corruptions or attacks as a grid, a row each.

    Below stands how far the images of each row are from the image at most, in l-inf and l2; of a
    profile, whose constants and which severities.

    Args:
        key: one key.
        image: (H, W, C) uint8, or floating in [0, 1]; the first of every row.
        path: the picture, `.png`, `.pdf` or `.svg`.
        rows: by name a perturbation, (key, image) -> image, which is drawn `num_draws` times;
            several, such as its strengths, once each; or images (M, H, W, C), such as those that
            attacks return. None: all of `perturbations.PERTURBATIONS`.
        profile: of `corruptions.PROFILES`, in place of rows: each of its corruptions at each
            severity.
        num_draws: images of a perturbation.

    Raises:
        ValueError: for wrong shapes or values, rows and profile together, an unknown profile, or
            another suffix.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "gallery.svg"
        >>> image = np.full((4, 4, 1), 0.5, np.float32)
        >>> noise = rbjax.perturbations.gaussian_noise(sigma=0.1)
        >>> rows = {"noise": noise, "dark": [lambda key, x: x / 2]}
        >>> rbjax.analysis.gallery(jax.random.key(0), image, path, rows=rows, num_draws=2)
        >>> path.read_text().count("<image")  # 1 + 2, and 1 + 1
        5
    """
    from rbjax.analysis import grid

    if rows is not None and profile is not None:
        raise ValueError(f"rows and profile = {profile!r} are both given; give one of them")
    if rows is not None and not isinstance(rows, Mapping):
        raise ValueError(f"rows is {a_type(rows)}; it must be a dict of perturbations by name")
    num_draws = check_integer("num_draws", num_draws, low=1)
    headings = [f"draw {draw}" for draw in range(1, num_draws + 1)]
    if profile is not None:
        rows = _severities(profile)
        headings = [f"severity {level}" for level in range(1, 1 + max(map(len, rows.values())))]
    elif rows is None:
        rows = {name: perturbations.create(name) for name in perturbations.PERTURBATIONS.names()}
    elif not all(map(callable, rows.values())):
        headings = []
    place = of_a_file(path)
    made = grid.pictures(key, image, rows, num_draws)
    whole = np.asarray(to_float(np.asarray(image)))
    said = grid.sizes_said(whole, made)
    if profile is not None:
        said = f"{len(made)} corruptions, constants of {profile}, severities up to {len(headings)}"
    caption = f"{said}; n\xa0=\xa01 image"
    grid.plot_gallery(place, whole, made, headings=headings, caption=caption)


def _severities(profile: str) -> dict[str, list[Perturbation]]:
    """Returns each corruption of a profile at every severity for which there are constants."""
    names = corruptions.names(profile)
    levels = {
        name: range(1, 1 + len(corruptions.CONSTANTS[profile].get(name, range(5))))
        for name in names
    }
    return {
        name: [corruptions.create(name, severity=s, profile=profile) for s in levels[name]]
        for name in names
    }


def _said(result: Any, found: Sequence[measured.Measured], class_names: Names) -> dict[str, Any]:
    """Returns a picture's names of classes, and what stands below it."""
    names = _names(result, class_names, len(found[0].count))
    return {"class_names": names, "caption": measured.described(found)}


def _names(result: Any, class_names: Names, num_classes: int) -> list[str]:
    known = result.get("class_names") if isinstance(result, Mapping) else None
    return names_of(known if class_names is None else class_names, num_classes)
