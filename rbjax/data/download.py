"""Published files: downloaded or copied once, from their host, a mirror or a path, and verified.

An interrupted download is resumed.  A file gets its name only when it is complete and has its
checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from rbjax import atomic
from rbjax.data.description import File
from rbjax.errors import is_full
from rbjax.paths import expanded
from rbjax.progress import Progress, progress_bar

PART = ".part"
"""Suffix of a file that is still being downloaded."""
_TIMEOUT_SECONDS = 30.0
"""Without a byte; a slow host may take as long as it needs."""
_BLOCK = 1 << 20


class DatasetNotFoundError(ValueError):
    """A dataset is not on this machine and cannot be prepared."""


def fetch(
    file: File,
    folder: Path,
    *,
    source: str | Path | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> Path:
    """Puts a published file into a folder, unless it is there already.

    Args:
        file: its name, address and, if known, size and checksum.
        folder: created if it does not exist.
        source: where to take it from: the URL or the path of a file, or of a folder with the file
            (a URL then ends in a slash).  None: its own address.
        timeout: seconds without a byte after which a host counts as stalled.

    Returns:
        The file's path.

    Raises:
        DatasetNotFoundError: if it cannot be obtained; it says what to do.
        ValueError: if it differs from the published file; it names both checksums.
    """
    target = folder / file.name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    place = address(file, source)
    if urlsplit(str(place)).scheme in ("http", "https"):
        _download(str(place), target, file, timeout)
    else:
        path, part = Path(place), target.with_name(target.name + PART)
        if not path.is_file():
            raise DatasetNotFoundError(f"from = {str(path)!r}: no such file; {file.name} is needed")
        _check(path, str(path), file)
        try:
            shutil.copyfile(path, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return target


def address(file: File, source: str | Path | None = None) -> str | Path:
    """Returns where to take a file from.

    Args:
        file: the published file.
        source: as for `fetch`.

    Returns:
        A URL or a path.

    Raises:
        ValueError: if the source is a URL that is neither http nor https.
    """
    if source is None:
        return file.url
    scheme = urlsplit(str(source)).scheme
    if scheme in ("http", "https"):
        return f"{source}{quote(file.name)}" if str(source).endswith("/") else str(source)
    if "://" in str(source):
        raise ValueError(f"from = {str(source)!r}: must be an http or https URL, or a path")
    path = expanded(source, field="from")
    return path / file.name if path.is_dir() else path


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, name: str, file: File) -> None:
    size = path.stat().st_size
    if file.num_bytes is not None and size != file.num_bytes:
        raise ValueError(f"{name}: has {size:,} bytes; {file.name} has {file.num_bytes:,}")
    if file.sha256 is not None and (digest := sha256(path)) != file.sha256:
        raise ValueError(f"{name}: its SHA-256 is {digest}, that of {file.name} is {file.sha256}")


def _download(url: str, target: Path, file: File, timeout: float) -> None:
    part = target.with_name(target.name + PART)
    with atomic.room(part), _alone(part) as out:
        if target.exists():  # another process finished it while this one waited
            return
        try:
            answer = _answer(url, out, timeout)
            if answer is not None:
                with answer:
                    _receive(answer, out, file)
        except urllib.error.HTTPError as error:
            raise DatasetNotFoundError(
                f"{url}: the host answers {error.code} ({error.reason}); {_other_ways(file)}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            if is_full(error):
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            raise DatasetNotFoundError(
                f"{url}: stopped after {_size(out):,} bytes ({reason}); rerun to resume from "
                f"there, or {_other_ways(file)}"
            ) from None
        try:
            _check(part, url, file)
        except ValueError:
            part.unlink()
            raise
        part.replace(target)


def _other_ways(file: File) -> str:
    return f"name a mirror's URL or the path of {file.name} with --from"


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Opens an unfinished file for appending once no other process has it; removes it if empty."""
    while True:
        out = part.open("ab")
        try:
            import fcntl

            fcntl.flock(out, fcntl.LOCK_EX)
        except ImportError:  # Windows has no flock
            pass
        # The other process may have renamed or removed the file.
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_ino == os.fstat(out.fileno()).st_ino:
                break
        out.close()
    with out:
        try:
            yield out
        finally:
            if part.exists() and not _size(out):
                part.unlink()


def _size(file: IO[bytes]) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _answer(url: str, out: IO[bytes], timeout: float) -> Any:
    """Opens a URL, requesting the missing part of the file, or all of it if that fails.

    Returns None if nothing is missing: the process ended before the file got its name.
    """
    have = _size(out)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return _open(request, timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers["Content-Range"] == f"bytes */{have}":
            return None
    out.truncate(0)  # there is more here than the host has: another file
    return _open(urllib.request.Request(url), timeout)


def _open(request: urllib.request.Request, timeout: float) -> Any:
    """Opens a URL, with certifi's authorities if this Python's do not include the host's."""
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            raise
    import certifi  # comes with TFDS

    context = ssl.create_default_context(cafile=certifi.where())
    return urllib.request.urlopen(request, timeout=timeout, context=context)


def _receive(answer: Any, out: IO[bytes], file: File) -> None:
    """Appends what the host sends; starts the file over if the host sends all of it.

    Raises:
        ValueError: as soon as it is more than the published file has; nothing of it is kept.
    """
    if answer.status != 206:
        out.truncate(0)
    elif not (answer.headers["Content-Range"] or "").startswith(f"bytes {_size(out)}-"):
        raise OSError("the host sent another part than requested")
    have, length = _size(out), answer.headers["Content-Length"]
    total = have + int(length) if length else file.num_bytes
    most = total if file.num_bytes is None else file.num_bytes
    if total is not None and most is not None and total > most:
        out.truncate(0)
        raise ValueError(f"{answer.url}: has {total:,} bytes; {file.name} has {most:,}")
    with progress_bar(file.name, unit="B") as tell:
        tell(Progress("", have, total or 0))
        while block := answer.read(_BLOCK):
            have += len(block)
            if most is not None and have > most:
                out.truncate(0)
                raise ValueError(f"{answer.url}: sends more than the {most:,} bytes of {file.name}")
            out.write(block)
            tell(Progress("", have, total or 0))
    if total is not None and _size(out) < total:
        raise OSError(f"the host sent {_size(out):,} of {total:,} bytes")
