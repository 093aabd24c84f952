"""The first preparation of a TFDS dataset: the only place that imports TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from rbjax.data.datasets import DATASETS
from rbjax.data.description import File
from rbjax.data.download import DatasetNotFoundError, fetch
from rbjax.paths import expanded

MIRROR = "RBJAX_MIRROR"
"""The environment variable that names a folder or a URL with published files."""
_MANUAL = "downloads/manual"
"""Where, in the folder of datasets, TFDS looks before it downloads."""
# A host that has not answered by then counts as unreachable; TFDS itself would try for minutes.
_PATIENCE_SECONDS = 6.0


def prepare(name: str, data_dir: Path, source: str | Path | None = None) -> None:
    """Has TFDS download a dataset and write it as ArrayRecord.

    Args:
        name: its name in TFDS.
        data_dir: the folder to write it to.
        source: where to take its files from, as for `take`; None: $RBJAX_MIRROR if it is set, else
            files that were placed by hand, else their hosts.

    Raises:
        DatasetNotFoundError: if TensorFlow is not installed, its host cannot be reached, or TFDS
            fails.
        ValueError: if a file differs from the published one.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and TFDS prepares it with TensorFlow, which is not "
            "installed: pip install 'rbjax[prepare]', in a clone '.[prepare]'"
        )
    files = published_files(name)
    take(name, files, data_dir / _MANUAL, source)
    info = DATASETS[name.partition("/")[0]]
    missing = [file.name for file in info.files if not (data_dir / _MANUAL / file.name).exists()]
    if info.how_to_get and missing:
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and {', '.join(missing)} is not in "
            f"{data_dir / _MANUAL}: {info.how_to_get}"
        )
    _check_hosts(name, data_dir, files)
    # TFDS uses files that lie there; its own downloads start over when they are interrupted.
    for file in files:
        fetch(file, data_dir / _MANUAL)
    import tensorflow as tf  # TFDS encodes images with it

    with contextlib.suppress(RuntimeError):  # TensorFlow is already in use
        tf.config.set_visible_devices([], "GPU")
    print(f"{name} is not in {data_dir}: TFDS downloads and prepares it, once", file=sys.stderr)
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # which would fill a log
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # TFDS, requests and the file system each raise their own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and TFDS could not prepare it: {reason}"
        ) from error


def published_files(name: str) -> tuple[File, ...]:
    """Returns the files of a dataset that are downloaded or placed by hand.

    Args:
        name: its name in TFDS, or one of a dataset that TFDS does not have.

    Returns:
        Their names, addresses, sizes and checksums.
    """
    base, _, config = name.partition("/")
    info = DATASETS[base]
    if info.builder or info.embedded:
        return info.files
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(base).url_infos or {}
    by_hand = {file.name for file in info.files}
    files = [
        File(value.filename or PurePosixPath(url).name, url, value.size, value.checksum)
        for url, value in infos.items()
    ]
    files = [file for file in files if file.name not in by_hand]
    if base == "cifar10_1" and config:
        files = [file for file in files if f"_{config}_" in file.name]
    return (*info.files, *files)


def take(name: str, files: Sequence[File], folder: Path, source: str | Path | None = None) -> None:
    """Puts a dataset's files into a folder, from a mirror or a path.

    Args:
        name: of the dataset.
        files: those that are published.
        folder: where to put them; files that are there already stay.
        source: the URL (ending in a slash) or the path of a folder with them, or of one file.
            None: $RBJAX_MIRROR, if it is set; from a folder, those that are in it.

    Raises:
        DatasetNotFoundError: if a file cannot be obtained; it says what to do.
        ValueError: if one differs from the published one; it names both checksums.
    """
    wanted = list(files)
    if source is None:
        source = os.environ.get(MIRROR)
        if not source:
            return
        if "://" in source:
            source = source.rstrip("/") + "/"
        else:
            wanted = [
                file for file in files if (expanded(source, field=MIRROR) / file.name).exists()
            ]
    elif not (
        str(source).endswith("/")
        if "://" in str(source)
        else expanded(source, field="from").is_dir()
    ):
        file_name = PurePosixPath(urllib.parse.urlsplit(str(source)).path).name
        wanted = [file for file in files if file.name == file_name or len(files) == 1]
        if not wanted:
            raise ValueError(
                f"from = {str(source)!r}: is none of the files of {name}, "
                f"{', '.join(file.name for file in files)}; name one of them, or a folder (a URL "
                "that ends in a slash) that holds them"
            )
    for file in wanted:
        fetch(file, folder, source=source)


@contextlib.contextmanager
def taken(files: Sequence[File], folder: Path, source: str | Path | None = None) -> Iterator[None]:
    """Removes new files if a ValueError in the body shows that they are not the published ones.

    Without a published checksum only reading a file shows that, and a wrong file left in place
    would be used next time.  A download that is a zip archive stays: it may have taken hours.

    Args:
        files: those that are published, archives of the zip format.
        folder: where they are.
        source: as for `take`.

    Yields:
        Nothing.
    """
    new = [path for path in (folder / file.name for file in files) if not path.exists()]
    try:
        yield
    except ValueError:
        copied = source is not None and "://" not in str(source)
        for path in new:
            if path.exists() and (copied or not zipfile.is_zipfile(path)):
                path.unlink()
        raise


def _check_hosts(name: str, data_dir: Path, files: Sequence[File]) -> None:
    """Refuses at once if a file has yet to be downloaded and its host is unreachable."""
    missing = [file.url for file in files if not (data_dir / _MANUAL / file.name).exists()]
    hosts = {urllib.parse.urlsplit(url).netloc: url for url in missing}
    unreachable = [host for host, url in hosts.items() if not reachable(url)]
    if unreachable:
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and {', '.join(unreachable)} cannot be reached to "
            f"download it: name a mirror or files that are here, `python -m rbjax.data {name} "
            f"--prepare --from=URL_OR_PATH`; or run `python -m rbjax.data {name} --prepare` on a "
            f"machine with a network and copy its folder {name} here, or name the folder that "
            "holds it as data_dir"
        )


def reachable(url: str, *, patience: float = _PATIENCE_SECONDS) -> bool:
    """Returns whether the host of a URL answers at all, through a proxy if one is set.

    Args:
        url: http or https.
        patience: seconds to wait, including the look-up of its name.

    Returns:
        True for any answer, including an error.
    """
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=patience).close()
        except urllib.error.HTTPError as error:
            if error.code in (502, 503, 504):  # what a proxy answers for an unreachable host
                return
        except urllib.error.URLError as error:
            # The host answered if only its certificate is refused; TFDS brings its own.
            if "CERTIFICATE" not in str(error.reason):
                return
        except OSError:
            return
        answered.set()

    # The look-up of a name has no time limit, so it runs in a thread that is left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return answered.is_set()
