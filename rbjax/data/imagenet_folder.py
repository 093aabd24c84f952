"""ImageNet's validation images as they lie on a disk, labelled by WordNet ids.

    path/n01440764/<file>                  a folder for each class, named by its WordNet id
    path/ILSVRC2012_val_00000001.JPEG      flat, labelled by their numbers

A label is the place of the class's WordNet id among all 1,000 in ascending order, as torchvision's
networks have their outputs, whichever of the classes are there.  The development kit
(ILSVRC2012_devkit_t12) has a class for each number, and counts classes in another order; its
meta.mat says which is which.  TFDS carries the WordNet ids of all 50,000 images by number.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rbjax.data import folders, pictures
from rbjax.data.class_names import IMAGENET
from rbjax.data.imagenet_names import NAMES
from rbjax.data.images import resize_and_crop
from rbjax.data.survey import survey_files
from rbjax.errors import nearest
from rbjax.paths import expanded

DEVKIT = "ILSVRC2012_devkit_t12"
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})\.\w+")
_ID = re.compile(r"n\d{8}")
_PUBLISHED = 50
"""Images of each class."""


class Validation(NamedTuple):
    """The images of a folder."""

    root: Path
    files: tuple[Path, ...]
    labels: np.ndarray
    """(N,) int32, into NAMES."""
    left_out: list[tuple[str, Path]]
    """Why, and what."""

    def fingerprint(self) -> str:
        """Returns 16 characters: a digest of names, contents and labels of all files."""
        known = survey_files(self.root, self.files, self.left_out).fingerprint
        return hashlib.sha256(known.encode() + self.labels.tobytes()).hexdigest()[:16]


def scan(path: str | Path, devkit: str | Path | None = None) -> Validation:
    """Lists the validation images of a folder, and their labels.

    Args:
        path: of a folder n01440764/<image> for each class, of all or of some, or of images called
            ILSVRC2012_val_00000001.JPEG, of all or of some.
        devkit: the development kit, its folder or its archive; None: ILSVRC2012_devkit_t12 or
            ILSVRC2012_devkit_t12.tar.gz in or beside `path`, and where neither is there TFDS's
            list.  Not used with class folders.

    Returns:
        Files in alphabetical order, by class where they are in class folders.

    Raises:
        ValueError: naming the file or folder, if there are no images, a folder is not called by a
            class's WordNet id, or an image's label is not known.
    """
    root, where = expanded(path, field="dataset.path"), f"dataset.path = {str(path)!r}"
    try:
        if not root.is_dir():
            raise ValueError(f"{where}: {'not a folder' if root.exists() else 'no such folder'}")
        entries = sorted(root.iterdir())
        left_out: list[tuple[str, Path]] = []
        seen = []
        for entry in entries:
            reason = folders.why_left_out(entry)
            if reason or entry.name.startswith(DEVKIT):
                left_out.append((reason or "the development kit", entry))
            else:
                seen.append(entry)
        if any(entry.is_dir() for entry in seen):
            files, labels = _of_folders(seen, where, left_out)
        else:
            files, labels = _flat(root, seen, where, devkit, left_out)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error})") from None
    return Validation(root, tuple(files), np.asarray(labels, np.int32), left_out)


def tell(validation: Validation) -> None:
    """Prints how many images and classes there are, where they are not those published."""
    known = survey_files(validation.root, validation.files, validation.left_out)
    for line in known.said:
        print(f"{validation.root}: {line}", file=sys.stderr)
    counts = np.bincount(validation.labels, minlength=len(NAMES))
    if np.any(counts != _PUBLISHED):
        print(
            f"{validation.root}: {len(validation.files):,} images of {np.count_nonzero(counts):,} "
            f"of the {len(NAMES):,} classes; published are {_PUBLISHED} of each",
            file=sys.stderr,
        )


def read(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an image as torchvision does: RGB, not turned, its shorter side scaled, its middle cut.

    Args:
        file: its name; grey and CMYK images become RGB.
        shape: height, width and 3; an image that has this size already is not scaled.

    Returns:
        `shape` uint8.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{file}: not an image that can be read ({reason})") from None
    height, width = shape[:2]
    if image.size != (width, height):
        image = resize_and_crop(image, height, width)
    return np.asarray(image)


def _of_folders(
    entries: list[Path], where: str, left_out: list[tuple[str, Path]]
) -> tuple[list[Path], list[int]]:
    """Returns the images in class folders, and their labels."""
    known = {wordnet_id: label for label, wordnet_id in enumerate(IMAGENET)}
    files: list[Path] = []
    labels: list[int] = []
    for entry in entries:
        if not entry.is_dir():
            left_out.append(("in no class's folder", entry))
            continue
        if entry.name not in known:
            raise ValueError(f"{where}: {_not_a_class(entry, known)}")
        images = folders.images_below(entry, left_out)
        if not images:
            raise ValueError(f"{where}: {entry} holds no image that can be read")
        files += images
        labels += [known[entry.name]] * len(images)
    return files, labels


def _not_a_class(folder: Path, known: Mapping[str, int]) -> str:
    """Returns what is wrong with a folder that is called otherwise than a class."""
    if _ID.fullmatch(folder.name):
        return f"{folder} is none of ImageNet's 1,000 classes{nearest(folder.name, known)}"
    names = [entry.name for entry in folder.iterdir()]
    inside = any(_ID.fullmatch(name) or _FLAT.fullmatch(name) for name in names)
    hint = f"; did you mean {str(folder)!r}?" if inside else ""
    return (
        f"{folder} is not called by a class's WordNet id, such as {IMAGENET[0]} for "
        f"{NAMES[0].partition(' ')[2]}: which of a network's outputs it is cannot be known{hint}"
    )


def _flat(
    root: Path,
    entries: list[Path],
    where: str,
    devkit: str | Path | None,
    left_out: list[tuple[str, Path]],
) -> tuple[list[Path], list[int]]:
    """Returns images that lie beside each other, and their labels."""
    numbers: dict[int, Path] = {}
    unnumbered = []
    for entry in entries:
        match = _FLAT.fullmatch(entry.name)
        if not pictures.is_image(entry):
            left_out.append(("not an image that Pillow reads", entry))
        elif match is None:
            unnumbered.append(entry)
        elif (number := int(match[1])) in numbers:
            raise ValueError(
                f"{where}: {entry.name} and {numbers[number].name} are of one number; leave one"
            )
        else:
            numbers[number] = entry
    if unnumbered:
        raise ValueError(
            f"{where}: {unnumbered[0].name} has no label: an image is called "
            "ILSVRC2012_val_00000001.JPEG, whose number says its class, or it is in a "
            f"folder called by its class's WordNet id, such as {IMAGENET[0]}; of "
            f"{len(numbers) + len(unnumbered):,} images {len(unnumbered):,} are called otherwise"
        )
    if not numbers:
        raise ValueError(f"{where}: holds no image")
    source, truth = _labels(root, devkit)
    for number, file in numbers.items():
        if not 1 <= number <= len(truth):
            raise ValueError(
                f"{where}: {file.name} has no label: {source} has those of images 1 to "
                f"{len(truth):,}; images and labels do not belong together"
            )
    return list(numbers.values()), [int(truth[number - 1]) for number in numbers]


def _labels(root: Path, given: str | Path | None) -> tuple[str, np.ndarray]:
    """Returns where they are from, and the labels of all numbers, in WordNet's order."""
    kit = _found(root, given)
    if kit is None:
        return "TFDS", _of_tfds()
    meta, truth = _member(kit, _META), _member(kit, _TRUTH)
    places = _places(meta, f"dataset.devkit = {str(kit)!r}: {_META}")
    where = f"dataset.devkit = {str(kit)!r}: {_TRUTH}"
    labels = []
    for row, word in enumerate(truth.decode("utf-8", "replace").split(), 1):
        if not (word.isascii() and word.isdigit() and int(word) in places):
            raise ValueError(
                f"{where}: line {row} is {word!r:.40}; must be a class's number, 1 to "
                f"{len(IMAGENET):,}"
            )
        labels.append(places[int(word)])
    return str(kit), np.asarray(labels, np.int32)


def _places(content: bytes, where: str) -> dict[int, int]:
    """Returns the label of each class's ILSVRC2012_ID."""
    from scipy import io as scipy_io

    known = {wordnet_id: label for label, wordnet_id in enumerate(IMAGENET)}
    places: dict[int, int] = {}
    try:
        table: Any = scipy_io.loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        for synset in np.atleast_1d(table):
            if str(synset["WNID"]) in known:
                places[int(synset["ILSVRC2012_ID"])] = known[str(synset["WNID"])]
    except Exception as error:  # SciPy's reader raises whatever a damaged file leads to
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{where}: is not the development kit's ({reason})") from None
    if sorted(places.values()) != [*range(len(IMAGENET))]:
        raise ValueError(
            f"{where}: numbers {len(places):,} of ImageNet's {len(IMAGENET):,} classes; it is not "
            f"the one of {DEVKIT}"
        )
    return places


def _of_tfds() -> np.ndarray:
    """Returns the labels of TFDS's list, a WordNet id a line."""
    found = importlib.util.find_spec("tensorflow_datasets")  # its import takes seconds
    package = Path((found and found.origin) or "").parent
    known = {wordnet_id: label for label, wordnet_id in enumerate(IMAGENET)}
    try:
        ids = (package / "datasets/imagenet2012/validation_labels.txt").read_text().split()
    except FileNotFoundError:
        raise ValueError(
            "dataset.devkit is missing: the images lie beside each other, and this version of TFDS "
            f"has no labels of them; give {DEVKIT} of image-net.org, its folder or its .tar.gz, or "
            "put each image into a folder called by its class's WordNet id"
        ) from None
    return np.asarray([known[wordnet_id] for wordnet_id in ids], np.int32)


def _found(root: Path, given: str | Path | None) -> Path | None:
    """Returns the folder or the archive of the development kit; None if there is none."""
    if given is not None:
        kit = expanded(given, field="dataset.devkit")
        if not kit.exists():
            raise ValueError(f"dataset.devkit = {str(given)!r}: no such folder or archive")
        return kit
    names = (DEVKIT, f"{DEVKIT}.tar.gz")
    for folder in (root, root.resolve().parent):
        for name in names:
            if (folder / name).exists():
                return folder / name
    return None


_MOST_BYTES = 2**26
"""Of a file of the development kit; the largest has 5 MB."""


def _member(kit: Path, name: str) -> bytes:
    """Returns the contents of a file of the development kit."""
    lacks = f"dataset.devkit = {str(kit)!r}: holds no data/{name}; it is not {DEVKIT}"
    if kit.is_dir():
        file = next((f for f in (kit / "data" / name, kit / name) if f.is_file()), None)
        file = file or kit / DEVKIT / "data" / name
        if not file.is_file():
            raise ValueError(lacks)
        return file.read_bytes()
    try:
        with tarfile.open(kit) as archive:
            for member in archive:
                if member.isfile() and Path(member.name).name == name:
                    if member.size > _MOST_BYTES:
                        raise ValueError(f"{lacks}: {name} has {member.size:,} bytes")
                    opened = archive.extractfile(member)
                    return b"" if opened is None else opened.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"dataset.devkit = {str(kit)!r}: neither a folder nor an archive that can be read "
            f"({error})"
        ) from None
    raise ValueError(lacks)
