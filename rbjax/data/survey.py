"""What encoded images are together, before any is decoded: a fingerprint, sizes, channels, faults.

All of them are read once, in several threads.  What does not follow from one image alone is decided
here by all: whether they are grey, and whether 16 bits are kept.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rbjax.data import looks, pictures

THREADS = 8
"""That read at once: files and decoders let go of the interpreter."""
_AT_ONCE = 1000
_JUST_NOW = 1.0
"""Seconds; a file that was written since may be written again without looking different."""
_NAMED = 5
"""How many of those alike are named."""


class Size(NamedTuple):
    """Images of one size."""

    height: int
    width: int
    count: int
    first: str
    """The name of one."""


class Survey(NamedTuple):
    """What images are together."""

    fingerprint: str
    """16 characters: a digest of their names and their contents."""
    num_images: int
    channels: int
    """The most that an image has: 3 as soon as one has colours, 1 if all are grey."""
    is_deep: bool
    """Whether any is grey of 16 bits: then all are float32, and its bits are kept."""
    sizes: tuple[Size, ...]
    """The most frequent first."""
    mixed: str
    """What is said of images with fewer channels; "" if there are none."""
    said: tuple[str, ...]
    """What is said of files that are left out, or not read as they are stored."""
    contents: dict[str, bytes]
    """Name -> digest: equal files have equal ones."""

    def resized(self, height: int, width: int) -> str:
        """Returns what is said of images of another size than that wanted; "" if there are none."""
        alike = sum(s.count for s in self.sizes if (s.height, s.width) == (height, width))
        if alike == self.num_images:
            return ""
        return (
            f"{self.num_images - alike} of {self.num_images} images are not {height} x {width}: "
            "scaled (bilinear, antialiased) until they cover it, and cut to its middle"
        )

    def converted(self, channels: int) -> str:
        """Returns what is said of images that another's model is given; "" if they fit it."""
        if self.channels > channels:
            return "images in colour are turned grey, as the training images are"
        if self.channels < channels:
            return "images are grey, and read as RGB, as the training images are"
        return self.mixed

    def require_one_size(self, where: str) -> None:
        """Refuses images of several sizes.

        Raises:
            ValueError: beginning with `where`, with the sizes counted.
        """
        if len(self.sizes) > 1:
            named = [f"{s.count} of {s.height} x {s.width} ({s.first})" for s in self.sizes]
            first = self.sizes[0]
            raise ValueError(
                f"{where}: images are of {len(named)} sizes, height x width: {few(named)}; give "
                f"dataset.image_size, such as {first.height},{first.width}, to which they are "
                "scaled (bilinear, antialiased) until they cover it, and cut to its middle"
            )


def survey_files(root: Path, files: Sequence[Path], left_out: Sequence[tuple[str, Path]]) -> Survey:
    """Returns the survey of some files; they are read again only after a change.

    Args:
        root: the folder that they are in.
        files: in the order in which they count.
        left_out: why another entry of the folder is not among them, and which.

    Raises:
        ValueError: naming the files that cannot be read.
    """
    digest, newest = hashlib.sha256(), 0.0
    for file in files:
        stat = os.stat(file)
        state = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(f"{file} {state}\n".encode("utf-8", "surrogateescape"))
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    is_settled = newest < time.time() - _JUST_NOW
    survey_ = _survey_files if is_settled else _survey_files.__wrapped__
    return survey_(root, tuple(files), tuple(left_out), digest.hexdigest())


def relative(root: Path, files: Sequence[Path]) -> list[str]:
    """Returns the names of files below a folder; `Path.relative_to` takes as long as a stat."""
    start = len(str(root / "x")) - 1
    return [str(file)[start:] for file in files]


@functools.lru_cache(maxsize=8)
def _survey_files(
    root: Path, files: tuple[Path, ...], left_out: tuple[tuple[str, Path], ...], stamp: str
) -> Survey:
    """`survey_files`, once for each state of the files, `stamp`."""
    names, content_of = relative(root, files), looks.first()
    found = survey(names, lambda row: content_of(files[row]), str(root))
    return found._replace(said=(*found.said, *_left_out(root, left_out)))


def survey(names: Sequence[str], content: Callable[[int], bytes], where: str) -> Survey:
    """Returns the survey of encoded images.

    Args:
        names: of each.
        content: row -> all bytes of an image; called in several threads.
        where: they are, for errors.

    Raises:
        ValueError: naming those that cannot be read, with the reasons.
    """
    digest, headers, faults, contents = hashlib.sha256(), [], [], {}

    def examine(row: int) -> tuple[bytes, Any]:
        try:
            encoded = content(row)
            own = hashlib.sha256(encoded).digest()
            return own, pictures.header(f"{where}/{names[row]}", encoded)
        except ValueError as error:
            return b"", error

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for some in itertools.batched(range(len(names)), _AT_ONCE):
            for row, (own, header) in zip(some, pool.map(examine, some), strict=True):
                digest.update(names[row].encode("utf-8", "surrogateescape") + b"\0" + own)
                contents[names[row]] = own
                (faults if isinstance(header, ValueError) else headers).append(header)
    refuse(faults, len(names))
    channels = max((header.channels for header in headers), default=1)
    return Survey(
        digest.hexdigest()[:16],
        len(names),
        channels,
        any(header.is_deep for header in headers),
        _sizes(names, headers),
        _mixed(headers) if channels == 3 else "",
        _said(headers),
        contents,
    )


def refuse(faults: Sequence[Exception], num_images: int) -> None:
    """Raises an error that counts what cannot be read and names the first, if there is any.

    Raises:
        ValueError: of one line.
    """
    if len(faults) == 1:
        raise ValueError(str(faults[0]))
    if faults:
        named = few([str(fault) for fault in faults])
        raise ValueError(f"{len(faults)} of {num_images} images cannot be read: {named}")


def _sizes(names: Sequence[str], headers: Sequence[pictures.Header]) -> tuple[Size, ...]:
    counts = collections.Counter(header.size for header in headers)
    firsts = {header.size: name for name, header in zip(names[::-1], headers[::-1], strict=True)}
    return tuple(Size(*size, count, firsts[size]) for size, count in counts.most_common())


def _mixed(headers: Sequence[pictures.Header]) -> str:
    fewer = sum(header.channels == 1 for header in headers)
    verb, all_ = ("is", "it is") if fewer == 1 else ("are", "they are")
    mixed = f"{fewer} of {len(headers)} images {verb} grey, others in colour: {all_} read as RGB"
    return mixed if fewer else ""


def _said(headers: Sequence[pictures.Header]) -> tuple[str, ...]:
    counts = collections.Counter(change for header in headers for change in header.changes)
    said = [f"{count} of {len(headers)} images {change}" for change, count in counts.items()]
    if deep := sum(header.is_deep for header in headers):
        said.append(
            f"{deep} of {len(headers)} images with 16 bits: pixels are float32, the value divided "
            "by the full range of its type, 65535, or 4095 for a TIFF of 12 bits"
        )
    return tuple(said)


def _left_out(root: Path, entries: Sequence[tuple[str, Path]]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for reason, entry in entries:
        reasons.setdefault(reason, []).append(entry.relative_to(root).as_posix())
    return [
        f"left out, {reason}: {len(names)} ({few(names, ', ')})"
        for reason, names in reasons.items()
    ]


def few(names: Sequence[str], between: str = "; ") -> str:
    """Returns the first of some names, and how many more there are."""
    more = between + ("..." if between == ", " else f"and {len(names) - _NAMED} more")
    return between.join(names[:_NAMED]) + (more if len(names) > _NAMED else "")
