"""The classes of images nobody labelled, as a CSV: `python -m rbjax.predict RUN FOLDER`.

  python -m rbjax.predict runs/mine photographs --out=predictions.csv

RUN is a run directory or a file of `rbjax.save`; FOLDER holds images, below it too. The CSV has a
row an image: its file, its class, and the probability that the model gives that class.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The rest is imported inside, JAX with it: a typo and --help should not wait for it.
from rbjax import console, stops

if TYPE_CHECKING:
    from rbjax.trained import Predictions, Run


@console.steady()
def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m rbjax.predict") -> int:
    """Runs a command line and returns the exit code (docs/stops.md).

    Args:
        arguments: the command line's; None: `sys.argv[1:]`.
        prog: what the command is called.
    """
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="a run directory, or a file of rbjax.save")
    parser.add_argument("folder", help="of images")
    parser.add_argument("--out", default="predictions.csv", help="the CSV; predictions.csv")
    parser.add_argument("--batch_size", type=int, help="images at once; by the platform")
    parser.add_argument("--dry_run", action="store_true", help="say what it takes, and stop")
    options = parser.parse_args(arguments)
    return stops.command(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    from rbjax import atomic, private
    from rbjax.inputs import check_integer
    from rbjax.paths import of_a_file
    from rbjax.trained import load

    out = of_a_file(options.out, field="out")
    if out.suffix.lower() != ".csv":
        raise ValueError(f"out = {options.out!r}: suffix {out.suffix!r}; allowed: .csv")
    if options.batch_size is not None:
        check_integer("batch_size", options.batch_size, low=1)
    run = load(options.run)
    if options.dry_run:
        print(_preview(run, options.folder, out, batch_size=options.batch_size))
        return
    private.keep_programs()
    files, found = predict_folder(run, options.folder, batch_size=options.batch_size)
    names = [run.class_names[label] if label >= 0 else "" for label in found.classes]
    columns = {"file": files, "class": names, "probability": found.probability}
    atomic.write_csv(out, columns.items())
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    ranked = sorted(counts, key=lambda name: -counts[name])
    shown = ", ".join(
        f"{console.printable(name) or 'no class'} {counts[name]:,}" for name in ranked[:10]
    )
    more = f" and {len(ranked) - 10} more classes" if len(ranked) > 10 else ""
    print(f"{len(files):,} images: {shown}{more}\nwritten: {out}")


def predict_folder(
    run: Run, folder: str | os.PathLike[str], *, batch_size: int | None = None
) -> tuple[list[str], Predictions]:
    """Returns the images of a folder, below it too, and what a model says of each.

    Images are turned into the model's shape as those it was trained on: scaled until they cover
    it, and cut to its middle.

    Args:
        run: as `rbjax.load` returns.
        folder: of images; what is none is counted and named.
        batch_size: images at once; None: by the platform.

    Returns:
        The files, relative to the folder, in alphabetical order; and the predictions.

    Raises:
        ValueError: if there is no such folder or no image in it, or one cannot be read.
    """
    files, images = _images(run, folder)
    return files, run.predict(images, batch_size=batch_size, progress=True)


def _images(run: Run, folder: str | os.PathLike[str]) -> tuple[list[str], Any]:
    """Returns the images of a folder by name, and themselves, each read when it is asked for."""
    import numpy as np

    from rbjax.data import encoded, folders, imagenet_folder, scale, survey
    from rbjax.paths import expanded

    root, left_out = expanded(folder, field="folder"), []
    if not root.is_dir():
        what = "is a file; give a folder" if root.exists() else "there is no such folder"
        raise ValueError(f"folder = {str(folder)!r}: {what}")
    files = folders.images_below(root, left_out)
    if not files:
        raise ValueError(f"folder = {str(folder)!r}: holds no image that Pillow reads")
    found = survey.survey_files(root, files, left_out)
    height, width, channels = run.model.image_shape
    is_imagenet = run.config.dataset.name.startswith(("imagenet_folder", "imagenet2012"))
    dtype = np.float32 if found.is_deep and not is_imagenet else np.uint8
    read = imagenet_folder.read if is_imagenet else encoded.reader(dtype)
    images = encoded.EncodedImages(files, (height, width, channels), read, dtype)
    said = list(found.said)
    if not is_imagenet:
        said += [found.resized(height, width), found.converted(channels)]
        said += scale.beside(images, run.model.mean) if any(run.model.mean) else []
    for line in filter(None, said):
        print(f"{root}: {line}", file=sys.stderr)
    return [str(file.relative_to(root)) for file in files], images


def _preview(run: Run, folder: str | os.PathLike[str], out: Path, *, batch_size: int | None) -> str:
    """Returns what a prediction would read, take and write; two blocks are measured."""
    import time

    import numpy as np

    from rbjax import cost
    from rbjax.data import images as arrays

    files, images = _images(run, folder)
    size = min(batch_size or 64, len(files))

    def seconds(num_blocks: int) -> float:
        started = time.perf_counter()
        rows = np.arange(num_blocks * size) % len(files)
        run.predict(arrays.take(images, rows), batch_size=size)
        return time.perf_counter() - started

    seconds(1)  # compiles
    shape = " x ".join(map(str, run.model.image_shape))
    part = cost.Part("predict", f"{len(files):,} images", seconds(2) / (2 * size) * len(files))
    lines = ["dry run of predict: nothing is written", f"data: {len(files):,} images in {folder}"]
    lines += [f"each becomes {shape}; {len(run.class_names)} classes", cost.times([part])]
    there = " (replaced)" if out.exists() else ""
    return "\n".join([*lines, cost.memory(), f"would be written: {out}{there}"])


if __name__ == "__main__":
    stops.leave(main())
