"""Two runs under the same attacks, class by class: `python -m rbjax.compare RUN OTHER`.

  python -m rbjax.compare runs/standard runs/robust --epsilon=8/255 --out=comparison

Both are attacked with the same attacks and keys on the test images of the first. Differences are
those of the second less the first, with paired 95 % intervals (Tango); a run is better where
McNemar's exact test says so at 5 %, corrected for the number of classes (Holm). Writes
comparison.json, comparison.csv and the page comparison.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

# The rest is imported inside, JAX with it: a typo and --help should not wait for it.
from rbjax import console, stops
from rbjax.compared import Compared
from rbjax.errors import spelled
from rbjax.progress import ShowProgress
from rbjax.sheet import spoken

if TYPE_CHECKING:
    from rbjax.attacks import SuiteResult
    from rbjax.data import Dataset
    from rbjax.trained import Run


def compare_runs(
    first: Run,
    second: Run,
    *,
    epsilon: float | None = None,
    norm: str | None = None,
    num_steps: int = 20,
    max_examples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: ShowProgress = None,
) -> Compared:
    """Attacks two runs with the same attacks and keys, and compares them image by image.

    Args:
        first: as `rbjax.load` returns; its test images are those of both.
        second: of the same dataset and classes.
        epsilon: radius of the ball, in pixel units; None: that within which either was trained; if
            neither was, of the first attack that a config has, else 8/255.
        norm: `"linf"`, `"l2"` or `"l1"`; None: likewise, else `"linf"`.
        num_steps: of PGD; Auto-PGD, the other attack, makes 100.
        max_examples: test images at most; None: all.
        batch_size: images at once; None: by the platform.
        seed: of the attacks' keys; a run's own evaluation has others.
        progress: shown if True; a function is called after each block.

    Returns:
        The differences, second less first, of all images and of each class.

    Raises:
        ValueError: for runs of other datasets or classes, or trained within different balls where
            none is given, or values out of range.
    """
    from rbjax import attacks, prng

    test = _test_images(first, second, max_examples)
    entries = _attacks((first, second), epsilon, norm, num_steps)
    found = []
    for run in (first, second):
        result = attacks.run_attacks(
            run.logits_fn,
            prng.key(seed),
            test.images,
            test.labels,
            attacks=entries,
            example_ids=test.example_ids,
            batch_size=batch_size,
            progress=progress,
        )
        print(f"{run.path}: attacked on {test.num_examples:,} images", file=sys.stderr)
        found.append(result)
    return _compared((first, second), test, found)


def preview(
    first: Run,
    second: Run,
    files: Sequence[Any],
    *,
    epsilon: float | None = None,
    norm: str | None = None,
    num_steps: int = 20,
    max_examples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> str:
    """Returns what `compare_runs` would attack and take, and writes nothing.

    Args:
        first: as for `compare_runs`, as are all others.
        second: the other.
        files: what would be written.
        epsilon: radius of the ball.
        norm: of the ball.
        num_steps: of PGD.
        max_examples: test images at most.
        batch_size: images at once.
        seed: which changes nothing here.

    Raises:
        ValueError: as `compare_runs`.
    """
    from rbjax import attacks, cost
    from rbjax.analysis.evaluation import tested_on
    from rbjax.attacks.outcome import setting_of

    del seed
    test = _test_images(first, second, max_examples)
    entries, parts = _attacks((first, second), epsilon, norm, num_steps), []
    size = {"image_shape": test.info.image_shape, "num_classes": test.info.num_classes}
    for run in (first, second):
        rates = cost.measure_passes(run.logits_fn, test, batch_size=batch_size or 128)
        for label, entry in entries.items():
            each = attacks.count_passes(entry, **size)
            assert each is not None
            how = f"{test.num_examples:,} images, {each.forwards} passes forward each"
            seconds = rates.seconds(each.times(test.num_examples))
            parts.append(cost.Part(f"{label}: {run.path}", how, seconds, each.at_most))
    settings = "; ".join(f"{k}: {setting_of(entry)}" for k, entry in entries.items())
    data = f"data: {tested_on(test.info.name, test.split)}, {test.num_examples:,} images"
    lines = ["dry run of compare: nothing is written", data, settings, cost.times(parts)]
    there = ", ".join(f"{file}{' (replaced)' if file.exists() else ''}" for file in files)
    return "\n".join([*lines, cost.memory(), f"would be written: {there}"])


def _test_images(first: Run, second: Run, max_examples: int | None) -> Dataset:
    """Returns the images that both are attacked on, of runs that are alike."""
    from rbjax.inputs import check_integer
    from rbjax.training import setup

    check_alike(first, second)
    if max_examples is not None:
        check_integer("max_examples", max_examples, low=1)
    return setup.first(setup.load_test(first.config), max_examples)


def _attacks(runs: tuple[Run, Run], epsilon: float | None, norm: str | None, num_steps: int) -> Any:
    from rbjax import attacks

    ball = _ball(runs, epsilon, norm)
    return {"pgd": attacks.pgd(num_steps=num_steps, **ball), "apgd": attacks.apgd(**ball)}


def _compared(runs: tuple[Run, Run], test: Dataset, found: Sequence[SuiteResult]) -> Compared:
    import numpy as np

    from rbjax.rpr import compare, compare_classes
    from rbjax.rpr.class_bias import holm

    whole, classes, corrected = {}, {}, {}
    for label in ("clean", *found[0].outcomes, "worst"):
        flags = [result.correct(label) for result in found]
        whole[label] = compare(flags[0], flags[1])
        each = compare_classes(flags[0], flags[1], test.labels, num_classes=test.info.num_classes)
        p_values = np.array([one.p_value for one in each])
        classes[label], corrected[label] = each, holm(p_values).tolist()
    return Compared(
        names=(runs[0].path, runs[1].path),
        class_names=tuple(map(str, runs[0].class_names)),
        settings=found[0].settings,
        whole=whole,
        classes=classes,
        p_holm=corrected,
        about=_about(runs, test),
    )


def _about(runs: tuple[Run, Run], test: Dataset) -> dict[str, Any]:
    """Returns what a page says of a comparison besides its numbers."""
    import jax

    from rbjax.analysis import origin

    return {
        "dataset": test.info.name,
        "split": test.split,
        "step": [run.step for run in runs],
        "config": [run.config.to_dict() for run in runs],
        "command": origin.command(),
        "versions": origin.versions(),
        "device": jax.devices()[0].device_kind,
    }


def check_alike(first: Run, second: Run) -> None:
    """Refuses runs of which no image can be asked about both.

    Raises:
        ValueError: naming what differs: the dataset, what it holds, its images or its classes.
    """
    for field, run in {"first": first, "second": second}.items():
        if not hasattr(run, "logits_fn"):
            raise ValueError(f"{field} is {spelled(run)}; give what rbjax.load(path) returns")
    fields = {
        "dataset.name": [run.config.dataset.name for run in (first, second)],
        "dataset.fingerprint": [run.config.dataset.get("fingerprint") for run in (first, second)],
        "class_names": [tuple(run.class_names) for run in (first, second)],
        "image_shape": [tuple(run.model.image_shape) for run in (first, second)],
    }
    for field, (here, there) in fields.items():
        if here != there:
            raise ValueError(
                f"{second.path} has {field} {_short(there)}, {first.path} {_short(here)}: runs of "
                "different data cannot be compared"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _ball(runs: tuple[Run, Run], epsilon: float | None, norm: str | None) -> dict[str, Any]:
    """Returns the ball asked for, or that which the runs' own configs speak of, in either order.

    Raises:
        ValueError: if it was asked for by half, or the methods of the runs have different ones.
    """
    balls = [_balls([run.config.method])[:1] for run in runs]
    if not any(balls):  # neither was trained within one
        attacked = [_balls(run.config.attacks.values()) for run in runs]
        balls = [(attacked[0] or attacked[1])[:1]]
    known = list(dict.fromkeys(ball for of in balls for ball in of))
    if norm is None and epsilon is not None:
        known = list(dict.fromkeys((theirs, epsilon) for theirs, _ in known))
    if (norm is None or epsilon is None) and len(known) > 1:
        said = [f"{run.path} {_spoken(of[0])}" for run, of in zip(runs, balls, strict=True)]
        missing = "--norm" if epsilon is not None else "--epsilon and --norm"
        raise ValueError(
            f"trained within different balls, {' and '.join(said)}: say within which both are "
            f"attacked, {missing}"
        )
    (their_norm, their_epsilon) = known[0] if known else ("linf", 8 / 255)
    if norm is not None and epsilon is None and norm != their_norm:
        raise ValueError(f"norm = {norm!r}: give epsilon too")
    return {
        "epsilon": their_epsilon if epsilon is None else epsilon,
        "norm": norm or their_norm,
    }


def _balls(groups: Iterable[Any]) -> list[tuple[str, float]]:
    """Returns norm and radius of each group of a config that says both."""
    return [(g["norm"], g["epsilon"]) for g in groups if g.get("epsilon") and g.get("norm")]


def _spoken(ball: tuple[str, float]) -> str:
    return f"{ball[0]}, epsilon {spoken(ball[1])}"


@console.steady()
def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m rbjax.compare") -> int:
    """Runs a command line and returns the exit code (docs/stops.md).

    Args:
        arguments: the command line's; None: `sys.argv[1:]`.
        prog: what the command is called.
    """
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("first", help="a run directory, or a file of rbjax.save")
    parser.add_argument("second", help="another, of the same dataset")
    parser.add_argument("--epsilon", help="such as 8/255; that of training")
    parser.add_argument("--norm", choices=("linf", "l2", "l1"), help="that of training")
    parser.add_argument("--num_steps", type=int, default=20, help="of PGD; 20")
    parser.add_argument("--max_examples", type=int, help="test images at most; all")
    parser.add_argument("--batch_size", type=int, help="images at once; by the platform")
    parser.add_argument("--seed", type=int, default=0, help="of the attacks; 0")
    parser.add_argument(
        "--out",
        default="comparison",
        help="the files written, with .json, .csv and .html; comparison",
    )
    parser.add_argument("--dry_run", action="store_true", help="say what it takes, and stop")
    options = vars(parser.parse_args(arguments))
    return stops.command(lambda: _run(options))


def _run(options: dict[str, Any]) -> None:
    from rbjax import atomic, private
    from rbjax.analysis import page_of_comparison
    from rbjax.config.numbers import parse_fraction
    from rbjax.paths import expanded, of_a_file
    from rbjax.trained import load

    out = expanded(options.pop("out"), field="out")
    if out.suffix.lower() in (".json", ".csv", ".html"):  # all are written, whichever was named
        out = out.with_suffix("")
    files = [of_a_file(f"{out}.{suffix}", field="out") for suffix in ("json", "csv", "html")]
    if options["epsilon"] is not None:
        options["epsilon"] = parse_fraction(options["epsilon"])
    first, second = load(options.pop("first")), load(options.pop("second"))
    if options.pop("dry_run"):
        print(preview(first, second, files, **options))
        return
    private.keep_programs()
    found = compare_runs(first, second, progress=True, **options)
    print(found)
    print(
        "\nboth from the same random starts, which are not those of their own reports: there PGD "
        "may differ by chance"
    )
    atomic.write_json(files[0], found.as_json())
    atomic.write_csv(files[1], found.rows().items())
    page_of_comparison.write(files[2], found)
    print(f"\nwritten: {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    stops.leave(main())
