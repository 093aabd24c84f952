"""Classifier re-training: whose backbone it is, and that only the head learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, methods
from rbjax import config as schema
from rbjax.testing.training import check_prepare, make_model, make_train_set
from rbjax.testing.training import train as trained
from rbjax.training import run_directory, setup
from tests.training.recipes import assert_equal, finished_run


def test_a_new_head_learns_on_the_backbone_of_the_run():
    workdir = finished_run()
    run = schema.stored(run_directory.read_config(workdir))
    model = setup.create_model(run, setup.info(run))
    _, variables = setup.trained_variables(run, workdir, model)
    prepared = check_prepare(methods.crt(backbone=workdir))
    assert prepared.variables is not None
    own = variables["params"]["backbone"]
    assert_equal(prepared.variables["params"]["backbone"], own)
    _, last, history = trained(
        methods.crt(backbone=workdir), num_steps=5, variables=prepared.variables
    )
    assert_equal(last.variables["params"]["backbone"], own)
    kernels = [tree["params"]["head"]["kernel"] for tree in (prepared.variables, last.variables)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    assert history[-1].loss[0] < history[0].loss[0]


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        (lambda: "nowhere", r"method.backbone: workdir = 'nowhere': does not exist"),
        (
            lambda: finished_run(widths=(2, 4)),
            r"method.backbone = .*: has model.widths = \(2, 4\), this run \(2, 3\); give",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_named(workdir, message):
    method = methods.crt(backbone=workdir())
    assert method.prepare is not None
    with pytest.raises(ValueError, match=message):
        method.prepare(jax.random.key(0), make_train_set(), make_model())


def test_a_model_that_gives_its_logits_itself_has_no_head():
    model = make_model()._replace(init=lambda key, images: {"params": {"layer": jnp.zeros(2)}})
    method = methods.crt(backbone=finished_run())
    assert method.prepare is not None
    with pytest.raises(ValueError, match="crt needs a head to train, and model 'simple_cnn' gives"):
        method.prepare(jax.random.key(0), make_train_set(), model)


def test_the_backbone_is_demanded(tmp_path):
    config = schema.default()
    config.method.name = "crt"
    with pytest.raises(ValueError, match=r"method.backbone is missing: "):
        command_line.resolve(config, str(tmp_path))
