"""What a folder is known by: the same in another process, different for anything that differs."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from rbjax import atomic, attacks, journal, perturbations
from rbjax.attacks.transfer import transfer


def double(weights, images):
    return 2 * images.reshape(len(images), -1)[:, :3] + weights


def test_plain_dataclasses_are_known_as_repr_has_them():
    """Folders of scorings made before stay valid."""
    for name in perturbations.PERTURBATIONS:
        perturbation = perturbations.create(name)
        if hasattr(perturbation, "__dataclass_fields__"):
            assert journal.identity(perturbation) == repr(perturbation)
    chain = perturbations.create("rotation+gaussian_noise")
    assert journal.identity(chain) == repr(chain)


def test_functions_are_known_by_name_and_arrays():
    one = journal.identity(Partial(double, jnp.ones(3)))
    assert one == journal.identity(Partial(double, np.ones(3, np.float32)))
    assert one.startswith("double ")
    assert one != journal.identity(Partial(double, jnp.zeros(3)))
    images = jnp.ones((2, 2, 2, 1))
    plain = functools.partial(double, jnp.ones(3))
    other = functools.partial(double, jnp.array([0.0, 5.0, 0.0]))
    assert journal.identity(plain, images) != journal.identity(other, images)


def test_attacks_are_known_by_all_they_do():
    options = [{}, {"epsilon": 0.2}, {"loss": "dlr"}, {"momentum": 0.5}, {"use_best": True}]
    known = [journal.identity(attacks.pgd(**{"epsilon": 0.1, **o})) for o in options]
    crafted = [
        journal.identity(transfer(attacks.fgsm(epsilon=0.1), Partial(double, jnp.full(3, w))))
        for w in (1.0, 2.0)
    ]
    assert len({*known, *crafted}) == len(known) + len(crafted)
    assert not any(" at 0x" in one for one in known)
    program = (
        "from rbjax import attacks, journal; print(journal.identity(attacks.pgd(epsilon=0.1)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == known[0]


def test_randomised_models_are_known_by_weights_and_draws():
    models = [
        attacks.randomized(Partial(double, jnp.ones(3)), num_samples=2),
        attacks.randomized(Partial(double, jnp.ones(3)), num_samples=3),
        attacks.randomized(Partial(double, jnp.zeros(3)), num_samples=2),
    ]
    assert len({journal.identity(model) for model in models}) == 3


def test_arrays_and_keys_in_a_tuple():
    values = (jnp.ones(2), jax.random.key(0)), (jnp.ones(2), jax.random.key(1)), (jnp.ones(2),)
    assert len({journal.identity(value) for value in values}) == 3


def test_a_folder_belongs_to_one_call(tmp_path):
    folder = tmp_path / "deep" / "journal"
    kept = journal.Journal(folder, {"a": 1, "b": np.arange(2)})
    header = {"a": 1, "b": [0, 1], "format": journal.FORMAT}
    stored = json.loads((folder / journal.HEADER).read_text())
    assert len(stored.pop("sha256")) == 64
    assert stored == header
    kept.write_block("x-block-0", values=np.arange(3))
    again = journal.Journal(folder, {"a": 1, "b": np.arange(2)})
    stored = again.read_block("x-block-0")
    assert stored is not None
    np.testing.assert_array_equal(stored["values"], np.arange(3))
    assert kept.read_block("x-block-1") is None
    with pytest.raises(ValueError, match=r"belongs to a run with a = 1, this one has 2"):
        journal.Journal(folder, {"a": 2, "b": np.arange(2)})


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds other files \(mine\.txt\)"):
        journal.Journal(tmp_path, {})
    with pytest.raises(ValueError, match="is a file; give a folder"):
        journal.Journal(tmp_path / "mine.txt", {})
    journal.Journal(tmp_path, {}, own=("*.txt",))


def test_where_a_block_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_SAVES", 0.0)
    kept = journal.Journal(tmp_path, {})
    kept.write_unfinished("a-block-0", values=np.arange(3))
    assert kept.read_unfinished("a-block-1") is None
    stored = kept.read_unfinished("a-block-0")
    assert stored is not None
    np.testing.assert_array_equal(stored["values"], np.arange(3))
    kept.write_block("a-block-0", values=np.arange(3))
    assert kept.read_unfinished("a-block-0") is None


def test_models_with_the_same_answers_are_told_apart():
    """Scaled logits, and the same function and weights behind another normalisation."""
    images, weights = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 2, 2, 3), np.eye(12)

    def linear(scale, weights, images):
        return scale * (images.reshape(len(images), -1) @ weights)

    plain = [lambda x, s=s: linear(s, weights, x) for s in (1.0, 3.0)]
    bound = [Partial(functools.partial(linear, s), weights) for s in (1.0, 3.0)]
    for one, other in (plain, bound):
        assert journal.identity(one, images) != journal.identity(other, images)
        assert journal.identity(one, images) == journal.identity(one, images)


def test_a_model_has_one_identity_in_every_process():
    code = (
        "import jax, numpy as np; from rbjax import journal, models;"
        "from jax.tree_util import Partial;"
        "m = models.create('simple_cnn', num_classes=3, image_shape=(8, 8, 1), mean=[0], std=[1]);"
        "x = np.ones((2, 8, 8, 1), np.float32);"
        "print(journal.identity(Partial(m.apply, m.init(jax.random.key(0), x)), x))"
    )
    printed = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert printed[0].stdout == printed[1].stdout
    assert len(printed[0].stdout) > 16


def by_makers(scale, image):
    """Functions of one name: captured number and array, and a part of a record of ours."""
    noise = scale * np.linspace(0, 1, image.size, dtype=np.float32).reshape(image.shape)
    number, array = lambda key, x: scale * x, lambda key, x: x + noise
    return number, array, perturbations.compose(array), lambda key, x: x + jax.jit(lambda: noise)()


def test_functions_of_one_name_are_known_by_what_they_do():
    image, key = np.ones((8, 8, 1), np.float32), jax.random.key(0)

    def known(scale):
        return [journal.function_identity(fn, fn, key, image) for fn in by_makers(scale, image)]

    assert known(1.0) == known(1.0)
    assert all(one != other for one, other in zip(known(1.0), known(2.0), strict=True))


def test_functions_that_cannot_be_traced_are_known_by_their_code():
    def maker(scale):
        return lambda key, image: scale * image if bool(image.sum() > 0) else image

    image, key = np.ones((8, 8, 1), np.float32), jax.random.key(0)
    one, same, other = (
        journal.function_identity(fn, fn, key, image) for fn in map(maker, (1.0, 1.0, 2.0))
    )
    assert one == same != other


def test_what_is_ours_is_known_as_before():
    image, key = np.ones((16, 16, 1), np.float32), jax.random.key(0)
    for name in (*perturbations.PERTURBATIONS, "rotation+gaussian_noise"):
        perturbation = perturbations.create(name)
        asked = journal.function_identity(perturbation, perturbation, key, image)
        assert asked == journal.identity(perturbation)


def test_rules_for_derivatives_and_callbacks_belong_to_a_model():
    """A program is the same forwards with another gradient; what a callback reads is its code."""
    images = jax.ShapeDtypeStruct((2, 2, 2, 1), jnp.float32)

    def doubled(slope):
        @jax.custom_vjp
        def double(x):
            return 2 * x

        double.defvjp(lambda x: (2 * x, None), lambda _, g: (slope * g,))
        return lambda images: double(images.reshape(len(images), -1))

    def on_host(weights):
        shape = jax.ShapeDtypeStruct((2, 4), jnp.float32)
        return lambda images: jax.pure_callback(lambda x: x.reshape(2, 4) @ weights, shape, images)

    for maker in (doubled, lambda number: on_host(number * np.eye(4, dtype=np.float32))):
        one, same, other = (journal.identity(maker(number), images) for number in (1.0, 1.0, 2.0))
        assert one == same != other


def test_what_cannot_be_known_needs_a_fingerprint():
    generator = np.random.default_rng(0)

    def noisy(images):
        shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        return jax.pure_callback(lambda x: generator.random((2, 3), np.float32), shape, images)

    images: Any = jax.ShapeDtypeStruct((2, 2, 2, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"what a numpy.random._generator.Generator holds is not"):
        journal.identity(noisy, images)
    vars(noisy)["fingerprint"] = "seed 0"
    assert "fingerprint seed 0" in journal.identity(noisy, images)


def test_a_block_says_whose_rows_it_holds(tmp_path):
    images = np.arange(40, dtype=np.uint8).reshape(5, 2, 2, 2)
    labels, rows = np.arange(5), np.array([1, 2, 4])

    def opened(images):
        return journal.Journal(tmp_path, {}, journal.Contents(images, labels, labels))

    opened(images).write_block("x-block-0", rows, values=rows)
    stored = opened(images).read_block("x-block-0", rows)
    assert stored is not None
    np.testing.assert_array_equal(stored["values"], rows)
    changed = images.copy()
    changed[3] += 1  # of no row of the block
    assert opened(changed).read_block("x-block-0", rows) is not None
    changed[4] += 1
    for other, those in ((changed, rows), (images, np.array([1, 2, 3]))):
        with pytest.raises(ValueError, match="x-block-0 is of other images than this call's from"):
            opened(other).read_block("x-block-0", those)
    # One that is not finished is begun again.
    (tmp_path / "under_way-0.npz").unlink(missing_ok=True)
    kept = opened(images)
    vars(kept)["_last_save"] = -np.inf
    kept.write_unfinished("y-block-0", rows, values=rows)
    assert kept.read_unfinished("y-block-0", rows) is not None
    assert opened(changed).read_unfinished("y-block-0", rows) is None


def test_folders_of_earlier_versions_are_refused(tmp_path):
    """They do not say of what kind of call they are, nor their blocks of what images."""
    (tmp_path / journal.HEADER).write_text('{"num_images": 3}')
    with pytest.raises(ValueError, match="is of another version of rbjax, whose blocks do not say"):
        journal.Journal(tmp_path, {"call": "corruptions", "num_images": 3})


def test_a_damaged_header_is_named_and_written_anew(tmp_path, caplog):
    """Whatever its bits: a job chooses its folder itself, and could not give another one."""
    about, rows = {"call": "score", "num_images": 3, "key": [1, 2]}, np.arange(2)
    kept = journal.Journal(tmp_path, about)
    kept.write_block("x-block-0", values=rows)
    atomic.write_npz(tmp_path / "old-block-0.npz", of="", values=rows)  # of an earlier version
    header = (tmp_path / journal.HEADER).read_bytes()
    flips = [
        bytes([*header[:i], header[i] ^ (1 << bit), *header[i + 1 :]])
        for i in range(len(header) - 1)
        for bit in range(8)
    ]
    for number, damaged in enumerate((b"[1]", b"nonsense", b"", header[:-9], *flips[::7])):
        (tmp_path / journal.HEADER).write_bytes(damaged)
        caplog.clear()
        again = journal.Journal(tmp_path, about)
        assert (tmp_path / journal.HEADER).read_bytes() in (header, damaged)
        if number < 4:
            assert f"{tmp_path / journal.HEADER} is damaged" in caplog.text
        stored = again.read_block("x-block-0")
        assert stored is not None
        assert list(stored) == ["values"]
    assert again.read_block("old-block-0") is None  # only its header said what it was of
    with pytest.raises(ValueError, match="belongs to a run with num_images = 3, this one has 4"):
        journal.Journal(tmp_path, {**about, "num_images": 4})
    (tmp_path / journal.HEADER).write_bytes(header.replace(b'"num_images": 3', b'"num_images": 2'))
    assert journal.Journal(tmp_path, {**about, "num_images": 4}).read_block("x-block-0") is None
