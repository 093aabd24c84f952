"""What an attack asks a model, and networks that others published."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity import nets, published, trajectories
from experiments.parity.recorder import MOST, Recorder
from rbjax import attacks, prng

IMAGES = np.array([[0.2, 0.2], [0.8, 0.8]], np.float32)


def test_smallest_perturbations_are_kept_by_their_originals():
    recorder = Recorder(IMAGES, np.array([0, 0]), "l2")
    wrong, right = [0.0, 1.0], [1.0, 0.0]
    recorder.forwards(np.array([[0.8, 0.7], [0.2, 0.4]]), np.array([wrong, right]))
    recorder.backwards(np.array([[0.2, 0.3]]))
    recorder.forwards(np.array([[0.2, 0.3]]), np.array([wrong]))  # the second was dropped
    recorder.forwards(np.array([[0.2, -0.1]]), np.array([wrong]))  # outside the box
    assert recorder.passes.tolist() == [4, 1]
    np.testing.assert_allclose(recorder.smallest, [0.1, 0.1], rtol=1e-5)
    assert recorder.robust(0.11, np.array([0, 1, 2, 3])).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert recorder.robust(0.09, np.array([3])).tolist() == [1.0]
    late = Recorder(IMAGES, np.array([0, 0]), "linf")
    for _ in range(MOST):
        late.backwards(IMAGES[:1])
    late.forwards(IMAGES[:1] + 0.1, np.array([wrong]))
    assert not late.met


def test_what_is_recorded_is_what_is_counted():
    images = np.random.default_rng(0).uniform(0.3, 0.7, (3, 4, 4, 1)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)

    def linear(images):
        return images.reshape(len(images), -1) @ weights

    labels = np.argmax(linear(images), axis=1)
    recorder = Recorder(images.reshape(3, -1), labels, "linf")
    attack = attacks.pgd(epsilon=0.01, num_steps=3)
    keys = prng.split(prng.key(0), 3)
    batch = jnp.asarray(images), jnp.asarray(labels)
    attack(trajectories.recorded(linear, recorder), keys, *batch)
    jax.effects_barrier()
    passes = attacks.count_passes(attack, image_shape=(4, 4, 1), num_classes=3)
    assert passes is not None
    assert recorder.passes.tolist() == [passes.forwards + passes.backwards] * 3


def test_layers_are_those_of_pytorch():
    """A strided convolution with padding and what is flattened, by the sums that they are."""
    generator = np.random.default_rng(0)
    kernel, dense = generator.normal(size=(2, 1, 2, 2)), generator.normal(size=(3, 8))
    tensors = {"0.weight": kernel, "0.bias": np.array([0.1, -0.2])}
    tensors |= {"1.weight": dense, "1.bias": np.zeros(3)}
    tensors = {name: jnp.asarray(tensor, jnp.float32) for name, tensor in tensors.items()}
    image = generator.random((2, 2)).astype(np.float32)
    layers = (nets.Convolution("0", stride=2, padding=1), nets.Dense("1"))
    logits = nets.forward(layers, tensors, jnp.asarray(image)[None, :, :, None])
    padded = np.pad(image, 1)
    feature = np.zeros((2, 2, 2))
    for channel in range(2):
        for row, column in np.ndindex(2, 2):
            window = padded[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            feature[channel, row, column] = np.sum(window * kernel[channel, 0])
    feature = np.maximum(feature + np.array([0.1, -0.2])[:, None, None], 0)
    np.testing.assert_allclose(logits[0], dense @ feature.ravel(), rtol=1e-5)


def test_what_a_folder_lacks_is_named(tmp_path, capsys):
    assert published.main([str(tmp_path), "wong_kolter"]) == 2
    said = capsys.readouterr().err
    assert "has no master_seed_1_epochs_100.pth" in said
    assert "github.com/vtjeng/MIPVerify_data" in said
    assert trajectories.main([str(tmp_path)]) == 2
    file = tmp_path / nets.NETS["wong_kolter"].file
    file.write_bytes(b"another")
    assert hashlib.sha256(b"another").hexdigest() != nets.NETS["wong_kolter"].sha256
    with pytest.raises(ValueError, match="SHA-256 is another one"):
        nets.load("wong_kolter", tmp_path)
