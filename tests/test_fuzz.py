"""Mistakes made at random: nothing that is typed, and no damaged file, ends in a traceback.

CI runs a tenth, RBJAX_FUZZ=1 the whole: 1,000 configs and 200 files, the same ones each time.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rbjax.evaluate
import rbjax.score
import rbjax.train
from rbjax import analysis, config, main, tables
from rbjax.analysis import run_plots
from rbjax.training import log, setup
from rbjax.training.checkpoint import MANIFEST

TENTHS = 10 if os.environ.get("RBJAX_FUZZ") else 1


def seeded(tries: int) -> settings:
    """Returns the settings of a search that tries the same things each time."""
    checks: list[HealthCheck] = list(HealthCheck)  # pyright: ignore[reportAssignmentType]
    return settings(
        max_examples=tries * TENTHS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=checks,
    )


JOB = """from rbjax import config as schema

def get_config(variant=""):
    c = schema.default()
    c.batch_size, c.num_epochs, c.diagnostics, c.score.max_steps = 32, 1, 0, 2
    c.dataset.max_train_examples, c.dataset.max_test_examples = 64, 20
    c.model.name, c.model.widths = "mlp", (4,)
    c.attacks.a = schema.attack("fgsm")
    return c
"""

# ---------------------------------------------------------------------------- configs
FIELDS = [
    *config.TOP,
    *(f"{name}.{key}" for name, group in config.GROUPS.items() for key in group.every()),
    *(f"attacks.a.{key}" for key in config.ATTACKS.every()),
]
NAMES = {
    f"{name}.{group.selector}": tuple(tables.of_kind(group.kind).names())  # type: ignore[reportOptionalMemberAccess]
    for name, group in {**config.GROUPS, "attacks.a": config.ATTACKS}.items()
    if group.kind is not None
}
NUMBERS = """
    0 1 -1 2 3 0.5 -0.0 1e-320 1e-40 1e-30 1e9 1000000000 2147483647 2147483648 4294967296 1e18
    9223372036854775808 1e38 1e39 1e300 1e308 1e400 -1e308 nan inf -inf 1/0 0/1 1/3 1/1e-320 8/255
    1e308/1e-308 1//2 1/2/3 0x10 1_000 1,2 1e9,1e9 , () (1,) [2,3] 1,,2 nan,1 none None
"""
WORDS = ["", " ", "a", "none", "true", "FALSE", "é", "a/b", ":", "a:b", "os:getcwd", "rbjax:train"]
WORDS += ["~nobody/x", "\\0", "PGDLinf", "fgsm+pgd", "json.decoder:JSONDecoder", "x" * 3000, "🙂"]
LONG = [",".join(["1"] * 2000), "9" * 5000, "0." + "0" * 400 + "1"]
VALUES = (
    st.sampled_from([*NUMBERS.split(), *WORDS, *LONG]) | st.text(max_size=8) | st.floats().map(str)
)
FIELD = st.sampled_from(FIELDS)


@st.composite
def typed(draw: Any) -> tuple[str, str]:
    """Returns a field and what is typed for it, the name of a thing often one there is."""
    field = draw(st.sampled_from(list(NAMES)) if draw(st.booleans()) else FIELD)
    if field in NAMES and draw(st.booleans()):
        return field, draw(st.sampled_from(NAMES[field]))
    value = draw(VALUES)
    return (field, value) if draw(st.integers(0, 9)) else (draw(st.text(max_size=9)), value)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Returns a command that checks and plans a job, but neither trains nor evaluates."""
    (tmp_path / "job.py").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rbjax.train, "train", lambda *_: None)
    for module, name in ((rbjax.evaluate, "evaluate"), (rbjax.score, "score")):
        monkeypatch.setattr(module, name, lambda *_: {"no_class": {}})
    monkeypatch.setattr(analysis, "rehearse", lambda *_: None)
    monkeypatch.setattr(analysis, "report", lambda *_: "")

    def run(*arguments: str, file: str = "job.py") -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main.main(["rbjax", f"--config={file}", "--workdir=run", *arguments])
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return status, said.getvalue()

    return run


def test_configs(planned):
    @seeded(100)
    @given(st.lists(typed(), min_size=1, max_size=3))
    def try_one(fields):
        status, said = planned(*(f"--config.{field}={value}" for field, value in fields))
        assert status in (0, 2)
        if status:
            assert said.startswith("rbjax: ")
            words = {part for field, _ in fields for part in field.split(".")} | {"--config"}
            assert any(word and word in said for word in words), said

    assert planned() == (0, "")  # undamaged
    try_one()


def test_config_files(planned, tmp_path):
    places = [place for place, letter in enumerate(JOB) if letter not in " \n"]

    @seeded(10)
    @given(
        st.sampled_from(places),
        st.integers(0, 12),
        st.sampled_from(["", "1", "x", "(", '"', "None", "c.", "= 3 #", "\n", "raise ValueError"]),
    )
    def try_one(place, length, text):
        (tmp_path / "other.py").write_text(JOB[:place] + text + JOB[place + length :])
        status, said = planned(file="other.py")
        assert status in (0, 2)
        fields = [part for field in FIELDS for part in field.split(".")]
        assert not status or any(word in said for word in ("other.py", *fields)), said

    try_one()


# ---------------------------------------------------------------------------- files
@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the run directory of a job that has trained, evaluated and scored."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "job.py").write_text(JOB)
    with contextlib.redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_plots, "is_drawn", lambda *_: False)
        assert main.main(["rbjax", f"--config={folder}/job.py", f"--workdir={folder}/run"]) == 0
    return folder / "run"


def read_all(workdir: Path) -> None:
    """Reads a run directory as commands do: to evaluate it, to report it, to train on."""
    resolved = config.stored(rbjax.training.run_directory.read_config(workdir))
    job = str(workdir.parent / "job.py")
    command = rbjax.command_line.parse(
        ["rbjax", f"--config={job}", f"--workdir={workdir}", "--config.task=evaluate"]
    )
    resolved = rbjax.command_line.resolve(command.config, str(workdir), typed=command.typed)
    model = setup.create_model(resolved, setup.info(resolved))
    setup.trained_variables(resolved, str(workdir), model)
    analysis.read_report(workdir)
    analysis.report(workdir)
    log.write_csv(workdir)


def mutate_json(draw: Any, value: Any) -> Any:
    """Returns JSON with one thing replaced, dropped or of another type."""
    other = draw(st.sampled_from([None, 0, -1, 1e308, "x", [], {}, [[]], {"a": 1}, True, "é" * 9]))
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        rest = {k: v for k, v in value.items() if k != key}
        return rest if draw(st.booleans()) else {**value, key: mutate_json(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutate_json(draw, value[place]), *value[place + 1 :]]
    return other


@st.composite
def damage(draw: Any, content: bytes, is_json: bool) -> bytes:
    """Returns a file's content, cut, flipped, replaced, or of JSON with another value in it."""
    kind = draw(st.sampled_from(["cut", "flip", "replace"] + ["json"] * 5 * is_json))
    if kind == "json":
        return json.dumps(mutate_json(draw, json.loads(content))).encode()
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "flip":
        flipped = bytearray(content)
        for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            flipped[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(flipped)
    return draw(st.sampled_from([b"", b"\0" * 99, b"[" * 99999, b"null", b"{}", b"[1]", b"\xff"]))


def test_files_of_a_run_directory(finished, monkeypatch):
    monkeypatch.setattr(run_plots, "is_drawn", lambda *_: False)
    (manifest,) = finished.glob(f"checkpoints/*/{MANIFEST}")
    names = ["config.json", "report.json", "rpr.json", "metrics.jsonl", "report.npz"]
    files = [*(finished / name for name in names), manifest]
    contents = {file: file.read_bytes() for file in files}

    @seeded(10)
    @given(st.data())
    def try_one(data):
        file = data.draw(st.sampled_from(files))
        is_json = file.suffix == ".json"
        file.write_bytes(data.draw(damage(contents[file], is_json)))
        try:
            read_all(finished)
        except (ValueError, OSError) as error:
            said = str(error)
            # What a config says is named by its field.
            fields = [part for field in FIELDS for part in field.split(".")]
            named = [file.name, "checkpoints", *(fields if file.name == "config.json" else ())]
            assert any(name in said for name in named), said
        finally:
            file.write_bytes(contents[file])

    read_all(finished)  # undamaged
    try_one()


def test_arrays_of_ones_own(tmp_path, planned):
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 1), np.uint8)
    labels = np.arange(80) % 4
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {"test_images": images[:40], "test_labels": labels[:40]}
    np.savez(tmp_path / "whole.npz", **arrays)
    content = (tmp_path / "whole.npz").read_bytes()
    arguments = ("--config.dataset.name=npz", "--config.dataset.path=mine.npz")

    @seeded(4)
    @given(damage(content, is_json=False))
    def try_one(damaged):
        (tmp_path / "mine.npz").write_bytes(damaged)
        status, said = planned(*arguments)
        assert status in (0, 2)
        assert not status or "mine.npz" in said, said

    (tmp_path / "mine.npz").write_bytes(content)
    assert planned(*arguments) == (0, "")  # undamaged
    try_one()
