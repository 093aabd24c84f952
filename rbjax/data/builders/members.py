"""The files of a published dataset, inside its archive or in the folder it was unpacked to."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading an archive raises that is damaged, encrypted, or packed by an unknown method."""
_MOST_BYTES = 2**28
"""Of a file that is read whole, an image or a table; an archive can say any size."""
_CLUTTER = ("._", ".DS_Store", "__MACOSX")
"""How names begin that macOS leaves in folders and archives."""


class Members:
    """The files of a folder, or of a zip archive that is read without being unpacked."""

    def __init__(self, path: Path) -> None:
        """Lists the files.

        Args:
            path: of the folder or the archive.

        Raises:
            ValueError: if it is neither, or a damaged archive.
        """
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            names = []
            for folder, _, files in os.walk(path):  # links to folders are not followed
                inside = (Path(folder) / file for file in files)
                names += [file.relative_to(path).as_posix() for file in inside if file.is_file()]
            self._keep(names)
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise ValueError(
                f"{path}: not a zip archive, or a damaged one ({error}); delete it and download "
                "it again"
            ) from None
        self._keep([name for name in self._zip.namelist() if not name.endswith("/")])

    def _keep(self, names: list[str]) -> None:
        """Leaves out what macOS puts beside files, and counts it."""
        self.names = sorted(
            name
            for name in names
            if not any(part.startswith(_CLUTTER) for part in PurePosixPath(name).parts)
        )
        self.num_left_out = len(names) - len(self.names)

    def __enter__(self) -> Members:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def where(self, name: str) -> str:
        """Returns the name of a file for messages."""
        return f"{self.path}{'/' if self._zip is None else ': '}{name}"

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Opens a file for reading; in an archive, reading to the end verifies its checksum.

        Args:
            name: one of `names`.

        Yields:
            The open file.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        try:
            if self._zip is None:
                with (self.path / name).open("rb") as file:
                    yield file
            else:
                with self._zip.open(name) as file:
                    yield file
        except DAMAGED as error:
            raise ValueError(f"{self.where(name)}: is damaged ({error})") from None

    def read(self, name: str) -> bytes:
        """Returns the contents of a file.

        Args:
            name: one of `names`.

        Returns:
            All its bytes.

        Raises:
            ValueError: naming the file, if it is damaged, or larger than 256 MiB.
        """
        with self.open(name) as file:
            content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"{self.where(name)}: is larger than {_MOST_BYTES:,} bytes")
            return content

    def inside(self, *folders: str) -> list[str]:
        """Returns the files whose path contains these folders, each directly inside the one before.

        Args:
            *folders: names, such as "train"; any folders may be above and below them.

        Returns:
            Names, sorted.
        """
        wanted, count = list(folders), len(folders)
        return [
            name
            for name in self.names
            if (parts := PurePosixPath(name).parts[:-1])
            and any(list(parts[i : i + count]) == wanted for i in range(len(parts) - count + 1))
        ]
