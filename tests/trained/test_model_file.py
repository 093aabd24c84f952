"""A saved model is the run's, anywhere, and what is not one is said to be none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from functools import partial

import jax
import ml_dtypes
import numpy as np
import pytest

import rbjax
from rbjax import analysis, weights
from rbjax import config as schema
from rbjax.losses.imbalance import log_prior
from rbjax.trained import card as cards
from rbjax.training import posthoc, run_directory, setup
from tests.trained.runs import IMAGES, TRAINED, config_of, made

ELSEWHERE = """
import sys
import jax
import numpy as np

images = np.load("images.npy")
program = jax.export.deserialize(open("model.jaxexport", "rb").read())
exported = program.call(images)
assert not {"rbjax", "flax"} & set(sys.modules)

sys.modules["sklearn"] = None  # which has the digits
import rbjax

run = rbjax.load("model.safetensors")
np.savez("logits.npz", exported=exported, loaded=run.logits_fn(images))
print(run)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model's file."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    return rbjax.save(rbjax.load(TRAINED), path, licence="CC-BY-4.0")


def text_of(path):
    others = weights.read(path).others
    return {name.removeprefix("__metadata__."): value for name, value in others.items()}


def test_another_process_without_run_and_data_has_the_same_logits_to_the_bit(tmp_path, saved):
    """And the exported program has them without rbjax."""
    config = schema.stored(run_directory.read_config(TRAINED))
    logits = setup.trained_logits_fn(config, TRAINED)(IMAGES)
    np.save(tmp_path / "images.npy", IMAGES)
    (tmp_path / "model.safetensors").write_bytes(saved.read_bytes())
    rbjax.export(rbjax.load(TRAINED), tmp_path / "model.jaxexport")
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("<rbjax.Run model.safetensors: mlp on digits, universal training;")
    with np.load(tmp_path / "logits.npz") as there:
        np.testing.assert_array_equal(there["loaded"], logits)
        np.testing.assert_allclose(there["exported"], logits, rtol=1e-6, atol=1e-6)


def test_the_card_says_what_the_run_is(saved):
    card = {key: json.loads(text_of(saved)[key]) for key in cards.KEYS}
    report = analysis.read_report(TRAINED)
    assert card["licence"] == "CC-BY-4.0"
    assert card["class_names"] == list("0123456789")
    assert card["checkpoint"] == {"which": "last", "step": 40, "weights": "plain"}
    assert card["posthoc"] == {"tau_norm": None, "logit_adjustment": None}
    assert card["seeds"] == {"training": 0, "imbalance": 0}
    assert card["versions"]["jax"] == jax.__version__
    assert card["model"]["options"]["widths"] == [8, 8]
    assert list(card["evaluation"]["results"]) == list(report["results"])
    for label, result in report["results"].items():
        told = card["evaluation"]["results"][label]
        assert told["classwise"]["correct"] == np.diag(result["confusion"]).tolist()
        assert told["interval"] == result["interval"]
    train = setup.load_train(schema.stored(run_directory.read_config(TRAINED)))[0]
    digest = hashlib.sha256()
    for label, image in zip(train.labels.astype("<i4"), train.images, strict=True):
        digest.update(label.tobytes() + image.tobytes())
    assert card["data"]["train"]["sha256"] == digest.hexdigest()
    assert card["data"]["train"]["class_counts"] == train.class_counts.tolist()
    assert card["data"]["licence"] == "CC BY 4.0"


def test_a_loaded_file_is_saved_again_as_it_was(tmp_path, saved):
    run = rbjax.load(saved)
    assert rbjax.save(run, tmp_path / "same").read_bytes() == saved.read_bytes()
    other = rbjax.load(rbjax.save(run, tmp_path / "other", licence="MIT"))
    assert run.card is not None
    assert other.card == {**run.card, "licence": "MIT"}
    without = rbjax.load(rbjax.save(rbjax.load(TRAINED), tmp_path / "without")).card
    assert without is not None
    assert without["licence"] == "not stated"


def test_it_is_what_the_safetensors_package_reads_and_writes(saved):
    theirs = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    with theirs.safe_open(saved, "np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata == text_of(saved)
    run = rbjax.load(saved)
    np.testing.assert_array_equal(
        tensors["params.head.kernel"], run.variables["params"]["head"]["kernel"]
    )
    assert len(numpy.save(tensors, metadata)) == saved.stat().st_size


def test_tensors_of_every_dtype_are_read_as_they_were_written(tmp_path):
    tensors = {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(1.5, ">f8"),
        "half": np.arange(4, dtype=ml_dtypes.bfloat16).reshape(2, 2),
        "flags": np.array([True, False, True]),
        "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "é.x": np.arange(3, dtype=np.uint8),
    }
    with (tmp_path / "x").open("wb") as file:
        weights.write_safetensors(file, tensors, {"a key": "ä text\n"})
    read = weights.read(tmp_path / "x")
    assert read.others == {"__metadata__.a key": "ä text\n"}
    assert read.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        assert read.tensors[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read.tensors[name], array)
    starts = [read.tensors[name].ctypes.data % array.itemsize for name, array in tensors.items()]
    assert not any(starts)
    for name, array in (("__metadata__", np.zeros(2)), ("text", np.array(["a"]))):
        with pytest.raises(ValueError, match=name), (tmp_path / "x").open("wb") as file:
            weights.write_safetensors(file, {name: array}, {})


def test_what_was_done_after_training_stays_done(tmp_path):
    profile = {"name": "exponential", "imbalance_ratio": 10.0}
    config = config_of(imbalance=profile)
    variables = made(tmp_path / "run", config)[0].variables
    counts = setup.load_train(config)[0].class_counts
    assert counts.max() > 5 * counts.min()
    run = rbjax.load(tmp_path / "run", tau_norm=0.5, logit_adjustment=2.0)
    model = setup.create_model(config, setup.info(config))
    normalized = posthoc.normalize_head(variables, tau=0.5)
    expected = model.apply(normalized, IMAGES) - 2 * log_prior(counts).astype(np.float32)
    np.testing.assert_allclose(run.logits_fn(IMAGES), expected, rtol=1e-6, atol=1e-6)
    assert "head tau-normalised by 0.5; logits adjusted by 2;" in repr(run)
    again = rbjax.load(rbjax.save(run, tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.logits_fn(IMAGES), run.logits_fn(IMAGES))
    assert "head tau-normalised by 0.5; logits adjusted by 2;" in repr(again)
    assert again.card is not None
    assert again.card["posthoc"]["tau_norm"] == {"tau": 0.5, "applied_to_the_tensors": True}
    told = again.card["posthoc"]["logit_adjustment"]
    assert (told["tau"], told["class_counts"]) == (2.0, counts.tolist())
    program = rbjax.export(run, tmp_path / "program").read_bytes()
    exported = jax.export.deserialize(bytearray(program)).call(IMAGES)
    np.testing.assert_allclose(exported, run.logits_fn(IMAGES), rtol=1e-6, atol=1e-6)


def test_data_that_are_not_here_are_not_fetched_for_a_checksum(tmp_path):
    config = config_of(dataset={"name": "mnist"})
    with config.unlocked():
        config.data_dir, config.workdir = str(tmp_path / "nothing"), str(tmp_path / "run")
    made(tmp_path / "run", config)
    card = rbjax.load(rbjax.save(rbjax.load(tmp_path / "run"), tmp_path / "model")).card
    assert card is not None
    assert str(tmp_path) not in json.dumps(card["config"])
    assert card["data"]["train"] is None
    assert len(card["data"]["files"]) == 4
    assert all(len(file["sha256"]) == 64 for file in card["data"]["files"])
    assert not (tmp_path / "nothing").exists()


def test_each_flipped_bit_and_each_cut_is_an_error_of_one_line(tmp_path, saved):
    content, path = saved.read_bytes(), tmp_path / "damaged"
    places = np.random.default_rng(0).integers(0, 8 * len(content), 150).tolist()
    for place in [*range(64), *places]:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=str(path)) as error:
            rbjax.load(path)
        assert "\n" not in str(error.value)
    for length in (0, 1, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=str(path)):
            rbjax.load(path)


def rewritten(saved, path, *, tensors=None, **changed):
    """Writes a file that somebody made, whose digest is right."""
    found = weights.read(saved).tensors if tensors is None else tensors
    text = text_of(saved) | {key: json.dumps(value) for key, value in changed.items()}
    text["sha256"] = cards.digest(text, found)
    with path.open("wb") as file:
        weights.write_safetensors(file, found, text)
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": None}, "its card is none"),
        ({"model": {"name": "mlp", "options": {}}}, "its card is none"),
        ({"class_names": 3}, "its card is none"),
        ({"config": {}}, "config.json is damaged"),
        ({"posthoc": []}, "its card is none"),
    ],
)
def test_a_card_by_another_hand_is_refused_in_one_line(tmp_path, saved, changed, message):
    path = rewritten(saved, tmp_path / "x", **changed)
    with pytest.raises(ValueError, match=message) as error:
        rbjax.load(path)
    assert "\n" not in str(error.value)


def test_tensors_of_another_model_are_named(tmp_path, saved):
    tensors = dict(weights.read(saved).tensors)
    tensors["params.more"] = tensors.pop("params.head.bias")
    message = r"'params.head.bias' is missing, float32\[10\] in its model; 'params.more' is"
    with pytest.raises(ValueError, match=message):
        rbjax.load(rewritten(saved, tmp_path / "x", tensors=tensors))


def test_other_files_are_said_to_be_none_of_ours(tmp_path, saved):
    with (tmp_path / "others").open("wb") as file:
        weights.write_safetensors(file, {"weight": np.zeros(2, np.float32)}, {"format": "pt"})
    with pytest.raises(ValueError, match=r"no model that rbjax.save wrote; rbjax.weights.read"):
        rbjax.load(tmp_path / "others")
    text, tensors = text_of(saved), weights.read(saved).tensors
    with (tmp_path / "later").open("wb") as file:
        weights.write_safetensors(file, tensors, text | {"format_version": "2"})
    with pytest.raises(ValueError, match="is of format '2'; this rbjax knows 1: update it"):
        rbjax.load(tmp_path / "later")
    with pytest.raises(ValueError, match=r"checkpoint = 'last': .* is a file, which holds one"):
        rbjax.load(saved, checkpoint="last")
    with pytest.raises(ValueError, match=r"model = 'mlp': its own is rbjax's mlp; leave it out"):
        rbjax.load(saved, model="mlp")


NET = """
import flax.linen as nn

class Net(nn.Module):
    num_classes: int = 10
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1))))
"""


def test_a_model_from_outside_is_imported_where_it_is_named(tmp_path, saved, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "rbjax_mylab.py").write_text(NET)
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path / "lab")
        config = schema.default()
        config.model.name = "rbjax_mylab:Net"
        schema.open_up(config.model, schema.GROUPS["model"], "rbjax_mylab:Net")
        config.model.width = 5
        made(tmp_path / "run", schema.resolve(config))
        run = rbjax.load(tmp_path / "run")
        path = rbjax.save(run, tmp_path / "model.safetensors")
        module = sys.modules["rbjax_mylab"]
        for given in ("rbjax_mylab:Net", module.Net):
            again = rbjax.load(path, model=given)
            np.testing.assert_array_equal(again.logits_fn(IMAGES), run.logits_fn(IMAGES))
    del sys.modules["rbjax_mylab"]
    with pytest.raises(ValueError, match=r"'rbjax_mylab:Net' is not rbjax's, and a file is not"):
        rbjax.load(path)
    assert "rbjax_mylab" not in sys.modules
    rbjax.models._create.cache_clear()
    moved = rbjax.load(path, model=module.Net)
    np.testing.assert_array_equal(moved.logits_fn(IMAGES), run.logits_fn(IMAGES))
    message = r"there is no module 'rbjax_mylab'.*start from the folder that holds it, or set PY"
    with pytest.raises(ValueError, match=message):
        rbjax.load(path, model="rbjax_mylab:Net")
    with pytest.raises(ValueError, match=message):
        rbjax.load(tmp_path / "run")
    calls = rewritten(
        saved,
        tmp_path / "calls",
        model={
            **json.loads(text_of(saved)["model"]),
            "name": "os:mkdir",
            "options": {"path": str(tmp_path / "called")},
        },
    )
    with pytest.raises(ValueError, match="'os:mkdir' is not rbjax's"):
        rbjax.load(calls)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("write", [rbjax.save, rbjax.export])
def test_where_nothing_can_be_written_is_said(tmp_path, write):
    run = rbjax.load(TRAINED)
    with pytest.raises(ValueError, match=r"is a folder; give a file in it"):
        write(run, tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder '.*nowhere'"):
        write(run, tmp_path / "nowhere" / "model")


@pytest.mark.parametrize("licence", [5, "", "  ", b"MIT"])
def test_a_licence_is_a_name(tmp_path, licence):
    with pytest.raises(ValueError, match=r"licence is .*; it must be the name of one, such as"):
        rbjax.save(rbjax.load(TRAINED), tmp_path / "model", licence=licence)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("path", [None, 3, b"model"])
def test_what_is_no_path_is_said(path):
    run = rbjax.load(TRAINED)
    for call in (rbjax.load, partial(rbjax.save, run), partial(rbjax.export, run)):
        with pytest.raises(ValueError, match=r"path is .*; it must be a path, text or a pathlib"):
            call(path)


def test_a_card_names_no_folder(tmp_path):
    """A saved model travels, and folders are its owner's."""
    run = rbjax.load(TRAINED)
    config = run.config.copy_and_resolve_references().unlock()
    config.dataset.path = "~/secret/own.npz"
    config.corruptions.baseline = "/secret/baseline"
    config.method.update(backbone="/secret/first", start_from="/secret/second")
    config.attacks.transfer = schema.attack("pgd", source="/secret/other")
    config.workdir, config.data_dir = "/secret/run", "/secret/data"
    card = cards.make(dataclasses.replace(run, config=config), licence=None)
    assert "secret" not in str(card)
    assert card["config"]["dataset"]["path"] == "own.npz"
    assert card["config"]["attacks"]["transfer"]["source"] == "other"
