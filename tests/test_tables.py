"""One way to make a thing by name, for every kind; and what is in a table is everywhere."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import structure
from rbjax import attacks, corruptions, losses, methods, models, perturbations, rpr, tables
from rbjax import config as schema
from rbjax.config import catalog
from rbjax.data import imbalance, sampling
from rbjax.main import main
from rbjax.methods import standard
from rbjax.options import Range
from rbjax.tables import Table
from rbjax.training import optimizers, schedules

GROUPS = {group.kind: name for name, group in schema.GROUPS.items() if group.kind}


def maker(*, size: Annotated[int, Range(low=1)], shape: Literal["round", "flat"] = "round"):
    """Returns a thing."""
    return size, shape


THINGS: Table[Any] = Table("thing", {"maker": maker})


def test_create_passes_options_on():
    assert THINGS.create("maker", {"size": 3}) == (3, "round")
    assert THINGS.create(maker, {"size": 4, "shape": "flat"}) == (4, "flat")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("makr", {}, "thing 'makr' is unknown; allowed: maker; did you mean 'maker'"),
        ("maker", {"siz": 3}, "has no option 'siz'; allowed: size, shape; did you mean 'size'"),
        ("maker", {"shape": "flat"}, "thing 'maker' needs its option 'size'"),
        ("maker", {"size": 0}, "size is 0; it must be a whole number of at least 1"),
        ("maker", {"size": 1, "shape": "falt"}, "shape 'falt' is unknown; .* mean 'flat'"),
        ("mylab:noisy", {}, "thing 'mylab:noisy': there is no module 'mylab'"),
        ("optax:sdg", {}, "module optax has no 'sdg'; did you mean 'sgd'"),
        ("optax.sgdd:x", {}, r"there is no module 'optax\.sgdd'"),
        ("math:pi", {}, "thing 'math:pi': is a float; it must be a function or a class"),
    ],
)
def test_create_names_what_is_wrong(name, options, message):
    with pytest.raises(ValueError, match=message):
        THINGS.create(name, options)


def test_a_module_of_the_current_folder_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lab_of_tests.py").write_text("def noisy(*, sigma: float = 0.5):\n  return sigma\n")
    (tmp_path / "lab_that_fails.py").write_text("1 / 0\n")
    assert THINGS.create("lab_of_tests:noisy", {"sigma": 1}) == 1.0
    with pytest.raises(ValueError, match="has no 'nosy'; did you mean 'noisy'"):
        THINGS.find("lab_of_tests:nosy")
    with pytest.raises(ValueError, match="there is no module 'lab_of_test'; did you mean"):
        THINGS.find("lab_of_test:noisy")
    with pytest.raises(ValueError, match="importing lab_that_fails failed: ZeroDivisionError"):
        THINGS.find("lab_that_fails:noisy")


class ToyModel(nn.Module):
    """A model of tests."""

    toy: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.toy)(x.reshape(x.shape[0], -1))


def toy_arrays(*, toy: int = 3) -> dict[str, Any]:
    """Returns a dataset of tests."""
    images, labels = np.zeros((2 * toy, 8, 8), np.uint8), np.arange(2 * toy) % 2
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
    }


def toy_attack(*, toy: int = 3):
    """Returns an attack of tests."""
    return attacks.pgd(epsilon=0.1, num_steps=toy)


def toy_method(*, toy: int = 3):
    """Returns a method of tests."""
    return standard()


def toy_loss(*, toy: float = 3.0):
    """Returns a loss of tests."""
    return lambda logits, labels: toy * logits[:, 0]


def toy_profile(*, class_counts: np.ndarray, toy: int = 3):
    """Returns counts of tests."""
    return np.minimum(class_counts, toy)


def toy_sampler(*, toy: int = 3):
    """Returns a sampler of tests."""

    def sampler(labels, *, seed, epoch, batch_size, num_steps):
        return np.full((num_steps, batch_size), toy, np.int32)

    return sampler


def toy_perturbation(*, toy: float = 3.0):
    """Returns a perturbation of tests."""
    return lambda key, image: jnp.clip(image + toy, 0.0, 1.0)


def toy_corruption(*, severity: int, toy: float = 3.0):
    """Returns a corruption of tests."""
    return lambda key, image: image * (1 - severity / 10)


def toy_optimizer(schedule: Any, *, toy: float = 3.0):
    """Returns an optimizer of tests."""
    return optax.sgd(schedule, momentum=toy / 10)


def toy_schedule(*, toy: float = 3.0):
    """Returns a schedule of tests."""
    return lambda step: toy


class ToyWriter:
    """A writer of tests."""

    def begin(self, workdir, config, first):
        pass

    def write(self, step, metrics):
        pass

    def close(self, is_finished):
        pass


def toy_writer(*, toy: int = 3):
    """Returns a writer of tests."""
    return ToyWriter()


TOYS = {
    "attack": toy_attack,
    "method": toy_method,
    "model": ToyModel,
    "loss": toy_loss,
    "dataset": toy_arrays,
    "imbalance profile": toy_profile,
    "sampler": toy_sampler,
    "perturbation": toy_perturbation,
    "corruption": toy_corruption,
    "optimizer": toy_optimizer,
    "schedule": toy_schedule,
    "writer": toy_writer,
}


def test_there_is_a_toy_of_every_kind():
    assert set(TOYS) == set(tables.HOMES)


@pytest.mark.parametrize("kind", TOYS)
def test_what_is_in_a_table_is_in_the_config_and_in_the_list(kind, monkeypatch, capsys):
    table = tables.of_kind(kind)
    assert table is not None
    monkeypatch.setitem(table, "toy_of_tests", TOYS[kind])
    assert main(["rbjax", f"--list={schema.plural(kind)}"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "of tests" in listed["toy_of_tests"]
    assert set(table) <= set(listed)

    config = schema.default()
    if kind == "attack":
        config.attacks.toy = schema.attack("toy_of_tests", toy=7)
        resolved = schema.resolve(config).attacks.toy
    else:
        group = schema.GROUPS[GROUPS[kind]]
        config[GROUPS[kind]][group.selector] = "toy_of_tests"
        config[GROUPS[kind]]["toy"] = 7
        resolved = schema.resolve(config)[GROUPS[kind]]
    assert resolved.toy == 7
    assert ".toy  " in schema.describe()
    assert table.create("toy_of_tests", {"toy": 7}, *SUPPLIED[kind][0], **SUPPLIED[kind][1])


SUPPLIED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    **dict.fromkeys(TOYS, ((), {})),
    "imbalance profile": ((), {"class_counts": np.array([9]), "num_classes": 1}),
    "optimizer": ((lambda step: 0.1,), {}),
    "corruption": ((), {"severity": 2}),
}


@pytest.mark.parametrize("kind", tables.HOMES)
def test_every_table_names_a_typo_in_the_same_way(kind):
    table = tables.of_kind(kind)
    assert table is not None
    name = table.names()[-1]
    message = f"{kind} '{name}x' is unknown; allowed: .*did you mean"
    with pytest.raises(ValueError, match=message):
        table.create(f"{name}x", {})


def test_a_library_call_takes_the_thing_itself():
    image, key = jnp.full((8, 8, 1), 0.5), jax.random.key(0)

    def change(key, image):
        return image + 0.25

    def rate(step):
        return jnp.full((), 0.5)

    assert perturbations.create(change) is change
    assert corruptions.create(change)(key, image).max() == 0.75
    assert losses.create(change) is change
    assert methods.create(standard()).loss is standard().loss
    sampler = toy_sampler()
    assert sampling.create(sampler) is sampler
    counts = imbalance.create(np.array([2, 1]), class_counts=np.array([3, 3]))
    assert counts.tolist() == [2, 1]
    assert schedules.create(rate, num_steps=2, steps_per_epoch=1) is rate
    transformation = optax.sgd(0.5)
    assert optimizers.create(transformation, rate) is transformation
    model = models.create(ToyModel(2), num_classes=2, image_shape=(8, 8, 1), mean=(0,), std=(1,))
    variables = model.init(key, image[None])
    assert model.apply(variables, image[None]).shape == (1, 2)
    for create in (perturbations.create, losses.create, corruptions.create):
        with pytest.raises(ValueError, match="made already has no options"):
            create(change, toy=3)


def test_a_library_call_takes_a_maker_and_its_options():
    image, key = jnp.full((8, 8, 1), 0.5), jax.random.key(0)
    assert attacks.create(toy_attack, toy=5) == toy_attack(toy=5)
    assert attacks.create(toy_attack()) == toy_attack()
    assert isinstance(methods.create(toy_method, toy=5), methods.Method)
    logits, labels = jnp.ones((2, 3)), jnp.zeros(2, jnp.int32)
    assert losses.create(toy_loss, toy=5)(logits, labels).tolist() == [5, 5]
    assert losses.create(toy_loss)(logits, labels).tolist() == [3, 3]
    assert perturbations.create(toy_perturbation, toy=0.25)(key, image).max() == 0.75
    shape: dict[str, Any] = {"num_classes": 2, "image_shape": (8, 8, 1), "mean": (0,), "std": (1,)}
    assert models.create(ToyModel, toy=2, **shape).init(key, image[None])


class ListModel(ToyModel):
    """A model of tests that cannot be hashed."""

    sizes: Any = ()


def test_a_library_call_refuses_what_is_no_thing_of_its_kind():
    calls: list[Any] = [attacks.create, methods.create, losses.create, perturbations.create]
    for create in calls:
        with pytest.raises(ValueError, match="5 is an int; it must be"):
            create(5)
    with pytest.raises(ValueError, match=r"'toy_loss' makes a function; it must make .*Method"):
        calls[1](toy_loss)
    with pytest.raises(ValueError, match=r"'ListModel' has a field that cannot be hashed.*tuple"):
        models.create(
            ListModel(2, sizes=[3]), num_classes=2, image_shape=(8, 8, 1), mean=(0,), std=(1,)
        )


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_every_attack_is_made_by_name(name):
    options = {"epsilon": 0.1} if "epsilon" in attacks.ATTACKS.options(name) else {}
    assert attacks.create(name, **options)


SUITES = {
    "attack": ("contracts/test_attacks.py", "test_contract"),
    "method": ("contracts/test_methods.py", "test_contract"),
    "model": ("contracts/test_models.py", "TestModel"),
    "loss": ("contracts/test_losses.py", "test_contract"),
    "perturbation": ("contracts/test_perturbations.py", "test_contract"),
    "corruption": ("contracts/test_corruptions.py", "test_contract"),
    "optimizer": (
        "training/test_optimizers.py",
        "test_every_optimizer_follows_its_schedule_and_compiles_once",
    ),
    "schedule": ("training/test_schedules.py", "test_every_schedule_is_a_jitable_float32_scalar"),
}
"""The contract suite of each kind that has one."""


@pytest.mark.parametrize("kind", SUITES)
def test_what_is_in_a_table_is_in_the_contract_suite(kind, monkeypatch):
    """The suite is read again, not run: its cases are made of the table as it is then."""
    table, (file, name) = tables.of_kind(kind), SUITES[kind]
    assert table is not None
    monkeypatch.setitem(table, "toy_of_tests", TOYS[kind])
    suite = runpy.run_path(str(Path(__file__).parent / file), run_name=f"suite_of_{kind}")
    marks = [mark for mark in suite[name].pytestmark if mark.name == "parametrize"]
    cases = [case for mark in marks for case in mark.args[1]]
    values = [
        value for case in cases for value in (case.values if hasattr(case, "values") else (case,))
    ]
    num_profiles = len(corruptions.PROFILES) if kind == "corruption" else 1
    assert values.count("toy_of_tests") == num_profiles


def test_run_attacks_and_score_run_what_is_in_the_table(monkeypatch):
    monkeypatch.setitem(attacks.ATTACKS, "toy_of_tests", toy_attack)
    monkeypatch.setitem(perturbations.PERTURBATIONS, "toy_of_tests", toy_perturbation)
    images, labels = np.full((2, 8, 8, 1), 100, np.uint8), np.array([0, 0])

    def logits_fn(x):  # of the class of dark images
        return jnp.stack([jnp.full(len(x), 0.45), x.mean((1, 2, 3))], axis=1)

    key = jax.random.key(0)
    made = {"toy": attacks.create("toy_of_tests", toy=8)}
    result = attacks.run_attacks(logits_fn, key, images, labels, attacks=made)
    assert (result.accuracy("clean").value, result.accuracy("toy").value) == (1, 0)
    toy = perturbations.create("toy_of_tests", toy=0.5)
    scores = rpr.score(logits_fn, key, images, labels, max_steps=2, perturbation=toy)
    assert not scores.robust.any()


def test_compiled_attacks_are_what_the_contract_suite_covers(monkeypatch):
    monkeypatch.setitem(attacks.ATTACKS, "toy_of_tests", toy_attack)
    assert "toy_of_tests" in attacks.compiled()
    assert "autoattack" not in attacks.compiled()
    assert set(attacks.compiled()) < set(attacks.ATTACKS)


def test_the_generated_file_says_what_the_makers_say():
    for kind in tables.HOMES:
        tables.of_kind(kind)
    assert catalog.FILE.read_text() == catalog.text(), "run: python -m rbjax.config"


def test_no_option_is_said_twice():
    assert not structure.options_said_twice()


def test_an_option_has_one_type_in_all_makers_of_a_kind_and_a_meaning():
    for kind in tables.HOMES:
        kinds: dict[str, type] = {}
        for name, entry in catalog.entries(kind).items():
            assert entry.summary, (kind, name)
            for option, said in entry.options.items():
                assert said.meaning, (kind, name, option)
                assert kinds.setdefault(option, said.kind) is said.kind


def test_list_says_what_kinds_there_are(capsys):
    for arguments in (["--list"], ["--list=attacks", "--list=models"]):
        assert main(["rbjax", *arguments]) == 2
        assert "allowed: attacks, methods, models, losses" in capsys.readouterr().err
    assert main(["rbjax", "--list=atacks"]) == 2
    assert "did you mean 'attacks'" in capsys.readouterr().err
