"""A run that is evaluated and scored with its logits adjusted, or its head normalised."""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rbjax import command_line, score
from rbjax.evaluate import evaluate
from rbjax.train import train
from rbjax.training import posthoc, setup


def test_evaluation_and_scoring_are_of_the_adjusted_model(job, tmp_path):
    """They are fields of an evaluation: the run was trained without them."""
    small = {"model__name": "mlp", "model__widths": (8,), "method__name": "standard"}
    small |= {"method__epsilon": None, "num_epochs": 1, "batch_size": 32, "loss__name": "ldam"}
    small |= {"imbalance__name": "exponential", "imbalance__imbalance_ratio": 10.0}
    small |= {"loss__class_weights": "effective_number", "optimizer__ema_decay": None}
    small |= {"score__max_steps": 1, "attacks": ConfigDict()}
    workdir = str(tmp_path / "run")

    def resolved(**changes):
        return command_line.resolve(job(**small, **changes), workdir)

    trained = resolved()
    train(trained, workdir)
    test = setup.load_test(trained)
    images = jnp.asarray(test.images / np.float32(255))
    plain_fn = setup.trained_logits_fn(trained, workdir)
    plain = plain_fn(images)
    counts = setup.load_train(trained)[0].class_counts
    expected = np.argmax(plain - 40 * np.log(counts), axis=1)
    assert np.any(expected != np.argmax(plain, axis=1))
    report = evaluate(resolved(task="evaluate", model__logit_adjustment=40.0), workdir)
    np.testing.assert_array_equal(np.load(f"{workdir}/report.npz")["clean"], expected)
    assert report["config"]["model"]["logit_adjustment"] == 40.0
    scored = resolved(task="score", model__logit_adjustment=40.0)
    logits_fn = score._logits_fn(scored, workdir, test, "float32", plain_fn.args[0])
    np.testing.assert_array_equal(np.argmax(logits_fn(images), axis=1), expected)
    normalized = setup.trained_logits_fn(resolved(model__tau_norm=0.5), workdir)(images)
    weights = posthoc.normalize_head(plain_fn.args[0], tau=0.5)
    np.testing.assert_array_equal(normalized, plain_fn.func(weights, images))
    assert np.abs(normalized - plain).max() > 0.1
