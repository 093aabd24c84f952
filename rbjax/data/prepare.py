"""The first preparation of a TFDS dataset: the one place that imports TensorFlow, and only then."""

from __future__ import annotations

import contextlib
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# A host that has not answered by then counts as out of reach; TFDS itself would try for minutes.
_PATIENCE_SECONDS = 6.0


class DatasetNotFoundError(ValueError):
    """A dataset is neither on this machine nor can it be prepared here."""


def prepare(name: str, data_dir: Path) -> None:
    """Has TFDS download a dataset and write it as ArrayRecord.

    Args:
        name: its name in TFDS.
        data_dir: the folder to write it to.

    Raises:
        DatasetNotFoundError: if its host cannot be reached, or TFDS fails.
    """
    import tensorflow_datasets as tfds

    _check_hosts(name, data_dir, tfds.builder_cls(name).url_infos or {})
    try:
        import tensorflow as tf  # TFDS encodes images with it
    except ImportError as error:
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and TFDS needs TensorFlow to prepare it: "
            "pip install tensorflow-cpu"
        ) from error
    with contextlib.suppress(RuntimeError):  # TensorFlow is in use already, as its user set it up
        tf.config.set_visible_devices([], "GPU")
    print(f"{name} is not in {data_dir}: TFDS downloads and prepares it, once", file=sys.stderr)
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # TFDS, requests and the file system each raise their own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and TFDS could not prepare it: {reason}"
        ) from error


def _check_hosts(name: str, data_dir: Path, url_infos: dict) -> None:
    """Refuses at once where a file has yet to be downloaded and its host is out of reach."""
    by_hand = data_dir / "downloads" / "manual"
    missing = [url for url, file in url_infos.items() if not (by_hand / file.filename).exists()]
    hosts = {urllib.parse.urlsplit(url).netloc: url for url in missing}
    unreachable = [host for host, url in hosts.items() if not reachable(url)]
    if unreachable:
        raise DatasetNotFoundError(
            f"{name} is not in {data_dir}, and {', '.join(unreachable)} cannot be reached to "
            f"download it: run `python -m rbjax.data {name} --prepare` on a machine with a network "
            f"and copy its folder {name} here, or name the folder that holds it as data_dir"
        )


def reachable(url: str, *, patience: float = _PATIENCE_SECONDS) -> bool:
    """Says whether the host of a URL answers at all, through a proxy where one is set.

    Args:
        url: http or https.
        patience: seconds to wait, looking up the name included.

    Returns:
        True for any answer, an error's included.
    """
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=patience).close()
        except urllib.error.HTTPError as error:
            if error.code in (502, 503, 504):  # a proxy's word for a host it cannot reach
                return
        except urllib.error.URLError as error:
            # Somebody answered if only the certificate displeases; TFDS brings its own.
            if "CERTIFICATE" not in str(error.reason):
                return
        except OSError:
            return
        answered.set()

    # The look-up of a name cannot be given a time limit, so it is left behind in its thread.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return answered.is_set()
