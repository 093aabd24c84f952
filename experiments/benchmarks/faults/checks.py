"""The trials: each of them once undamaged, once with a fault that must be seen, then at random."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.faults import jobs
from experiments.benchmarks.faults.jobs import Job, KnownDamageError, copy_of, found
from rbjax.training.checkpoint import Checkpoints

_KILLS_IN_A_ROW = 5


class Trial(NamedTuple):
    """What came of some faults."""

    tries: int
    identical: int
    refused: int = 0
    """In one line, which says what is damaged."""
    lost: str = ""
    """What differed, or what was said."""


def bases(folder: Path, kind: str) -> Path | None:
    """Returns the trained run that a job starts from, made where it is missing; None: none."""
    if kind not in jobs.TRAINED:
        return None
    workdir = folder / "bases" / jobs.TRAINED[kind]
    if not (workdir / "report.json").exists():
        _run_once(jobs.TRAINED[kind], workdir)
    return workdir


def _run_once(kind: str, workdir: Path, **options: int) -> dict[str, str]:
    job = Job(kind, workdir, **options)
    if job.wait():
        raise RuntimeError(f"{kind}: {job.text[-2000:]}")
    return found(workdir)


# ---------------------------------------------------------------------- kills


def expected(folder: Path, kind: str) -> tuple[dict[str, str], float]:
    """Returns what a job leaves when nothing happens, and the seconds that its work takes."""
    file = folder / f"expected-{kind}.json"
    if not file.exists():
        base = bases(folder, kind)
        for _ in range(2):  # the second has its programs compiled
            with copy_of(base) as workdir:
                job = Job(kind, workdir)
                job.await_work()
                began = time.monotonic()
                if job.wait():
                    raise RuntimeError(f"{kind}: {job.text[-2000:]}")
                seconds, whole = time.monotonic() - began, found(workdir)
        file.write_text(json.dumps([whole, seconds]))
    whole, seconds = json.loads(file.read_text())
    return whole, seconds


def kill(folder: Path, kind: str, number: int, seed: str, most: int = _KILLS_IN_A_ROW) -> Trial:
    """Ends a job by a signal again and again, at random moments, and lets it come to its end."""
    draw, kills, code = random.Random(seed), 0, 1  # noqa: S311
    whole, seconds = expected(folder, kind)
    right = -number if number == signal.SIGKILL else 75
    with copy_of(bases(folder, kind)) as workdir:
        while kills < most:
            job = Job(kind, workdir)
            if job.await_work():
                time.sleep(draw.uniform(0, 0.6 * seconds))
            code = job.signal(number)
            if code == 0:
                break
            kills += 1
            if code != right:
                return Trial(kills, 0, lost=f"exit code {code}: {job.text[-300:]}")
        if code and Job(kind, workdir).wait():
            return Trial(kills, 0, lost="it does not go on")
        wrong = _differing(whole, found(workdir))
    return Trial(kills, 0 if wrong else kills, lost=wrong)


def forge(workdir: Path) -> None:
    """Plants a fault that a job cannot know of: other values, and a manifest that says so."""
    for block in [*workdir.rglob("*-block-*.npz"), *workdir.rglob("under_way-*.npz")]:
        with np.load(block) as stored:
            arrays = dict(stored)
        for name, array in arrays.items():
            if array.dtype.kind in "iu" and array.size and array.ndim:
                arrays[name] = array ^ 1
        np.savez(block, **arrays)
    kept = Checkpoints(workdir / "checkpoints")
    if kept.steps():
        step, (arrays, extra) = kept.steps()[0], jobs.stored(kept.directory / str(kept.steps()[0]))
        name = min(name for name in arrays if "kernel" in name)
        kept.delete_after(step - 1)
        kept.save(step, {**arrays, name: arrays[name] + np.float32(1e-3)}, extra=extra)


def planted_kill(folder: Path, kind: str) -> bool:
    """Kills a job once, plants a fault, lets it go on; returns whether that is seen."""
    whole, seconds = expected(folder, kind)
    with copy_of(bases(folder, kind)) as workdir:
        job = Job(kind, workdir)
        job.await_work()
        time.sleep(0.4 * seconds)
        if job.signal(signal.SIGTERM) != 75:
            return False
        forge(workdir)
        return bool(Job(kind, workdir).wait() or _differing(whole, found(workdir)))


# ---------------------------------------------------------------------- damage


def damaged_run(folder: Path, seed: str, how: Callable[[Path, random.Random], str]) -> Trial:
    """Damages one file of a finished run, gives the command again, and looks at what is there."""
    base = folder / "bases" / "all"
    whole = _of_base(folder, base)
    with copy_of(base) as workdir:
        what = how(workdir, random.Random(seed))  # noqa: S311
        return _judged(whole, what, *_again(workdir), lambda: found(workdir))


def _of_base(folder: Path, base: Path) -> dict[str, str]:
    file = folder / "expected-all.json"
    if not file.exists():
        file.write_text(json.dumps(_run_once("all", base)))
    return json.loads(file.read_text())


def _again(workdir: Path) -> tuple[int, str]:
    """Gives the command of a finished run again, in this process."""
    from rbjax.main import main

    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        try:
            code = main(["rbjax", f"--config={jobs.JOB}:all", f"--workdir={workdir}"])
        except Exception as error:
            return 1, f"Traceback: {type(error).__name__}: {error}"
    return code, said.getvalue()


def flip(workdir: Path, draw: random.Random) -> str:
    """Flips one bit of one file."""
    file = _any(workdir, draw)
    content = bytearray(file.read_bytes())
    content[place := draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"{file.relative_to(workdir)}, byte {place}"


def truncate(workdir: Path, draw: random.Random) -> str:
    """Cuts one file short."""
    file = _any(workdir, draw)
    content = file.read_bytes()
    file.write_bytes(content[: (length := draw.randrange(len(content)))])
    return f"{file.relative_to(workdir)}, cut to {length} of {len(content)} bytes"


def none(workdir: Path, draw: random.Random) -> str:
    """Damages nothing."""
    return "nothing"


def planted(workdir: Path, draw: random.Random) -> str:
    """Plants what no checksum tells."""
    forge(workdir)
    return "a forged run"


def _any(workdir: Path, draw: random.Random) -> Path:
    files = sorted(p for p in workdir.rglob("*") if p.is_file() and p.stat().st_size)
    return draw.choice(files)


def damaged_data(folder: Path, seed: str, how: Callable[[Path, random.Random], str]) -> Trial:
    """Damages a file of MNIST as it is prepared, and reads both splits."""
    from rbjax import data

    source = Path("~/tensorflow_datasets/mnist").expanduser()
    file = folder / "expected-data.json"

    def read(place: Path) -> dict[str, str]:
        splits = (data.load("mnist", split, data_dir=str(place)) for split in ("train", "test"))
        contents = {
            split.split: split.images[:].tobytes() + split.labels.tobytes() for split in splits
        }
        return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}

    if not file.exists():
        file.write_text(json.dumps(read(source.parent)))
    with copy_of(None) as place:
        shutil.copytree(source, place / "mnist")
        what = how(place / "mnist", random.Random(seed))  # noqa: S311
        result: dict[str, str] = {}
        try:
            result = read(place)
        except ValueError as error:
            return _judged({}, what, 2, f"rbjax: {error}", dict)
        except Exception as error:
            return Trial(1, 0, lost=f"{what}: {type(error).__name__}: {error}"[:300])
    return _judged(json.loads(file.read_text()), what, 0, "", lambda: result)


def _judged(
    whole: dict[str, str], what: str, code: int, said: str, look: Callable[[], dict[str, str]]
) -> Trial:
    lines = [line for line in said.splitlines() if line.startswith("rbjax: ")]
    if code == 2 and len(lines) == 1:
        return Trial(1, 0, 1)
    if code:
        return Trial(1, 0, lost=f"{what}: exit code {code}, {said[-200:]}")
    try:
        wrong = _differing(whole, look())
    except KnownDamageError:
        return Trial(1, 0, 1)
    except Exception as error:
        wrong = f"what is left is damaged ({type(error).__name__})"
    return Trial(1, 0 if wrong else 1, lost=f"{what}: {wrong}" if wrong else "")


def _differing(whole: dict[str, str], other: dict[str, str]) -> str:
    names = sorted(k for k in whole.keys() | other.keys() if whole.get(k) != other.get(k))
    return f"differs in {', '.join(names)}" if names else ""


# ---------------------------------------------------------------------- numbers

SETTINGS: dict[str, dict[str, int]] = {
    "2 devices": {"devices": 2},
    "8 devices": {"devices": 8},
    "2 processes": {"count": 2},
    "2 processes of 4 devices": {"count": 2, "devices": 4},
    "1 thread": {"threads": 1},
    "2 threads": {"threads": 2},
    "4 threads": {"threads": 4},
}


_NO_WIDTHS = ("--config.model.widths=none",)


def numbers(folder: Path, setting: str, model: str, *overrides: str) -> Trial:
    """Runs a job otherwise divided, and compares: bit for bit, or how far apart."""
    base = folder / "bases" / f"{model}-1 device"
    model_of = (f"--config.model.name={model}", *(() if model == "mlp" else _NO_WIDTHS))
    if not (base / "rpr.json").exists():
        job = Job("threads", base, *model_of)
        if job.wait():
            raise RuntimeError(job.text[-2000:])
    with copy_of(None) as workdir:
        job = Job("threads", workdir, *model_of, *overrides, **SETTINGS.get(setting, {}))
        if job.wait():
            return Trial(1, 0, lost=job.text[-300:])
        wrong = _differing(found(base), found(workdir))
        if not wrong:
            return Trial(1, 1)
        apart = max(_apart(base, workdir), default=0.0)
    return Trial(1, 0, 0 if apart > 1e-3 else 1, f"losses up to {apart:.1e} apart")


def _apart(base: Path, workdir: Path) -> Iterator[float]:
    logs = (p.joinpath("metrics.jsonl").read_text().splitlines() for p in (base, workdir))
    for ours, theirs in zip(*logs, strict=True):
        a, b = (json.loads(line)["train/loss"] for line in (ours, theirs))
        yield abs(a - b) / abs(a)


def repeats(folder: Path, model: str) -> bool:
    """Returns whether the same command gives the same numbers twice."""
    return numbers(folder, "1 device", model).identical == 1


def tells_seeds(folder: Path, model: str) -> bool:
    """Returns whether another seed's numbers are told from these."""
    return not numbers(folder, "1 device", model, "--config.seed=1").identical


def exchanged(place: Path, draw: random.Random) -> str:
    """Puts one split in the other's place, each of whose files is whole."""
    files = [next(place.rglob(f"*{split}.array_record*")) for split in ("train", "test")]
    swap = files[0].with_name("swap")
    for source, target in ((files[0], swap), (files[1], files[0]), (swap, files[1])):
        source.rename(target)
    return "exchanged splits"
