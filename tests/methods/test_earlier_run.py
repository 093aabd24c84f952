"""Weights of an earlier run go into a model that is built the same, and into no other."""

import pytest

from rbjax import models
from rbjax.methods.earlier_run import weights_of
from tests.training.recipes import finished_run

DIGITS = {"num_classes": 10, "image_shape": (16, 16, 1), "mean": (0.3059,), "std": (0.3189,)}
PREACT = {"name": "preact_resnet18", "width": 2}
WIDE = {"name": "wide_resnet", "depth": 10, "widen_factor": 1}


def made(fields, **changes):
    return models.create(**{**DIGITS, **fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shortcut": "raw"}, r"has model.shortcut = 'activated', this run 'raw'; give model.* as"),
        ({"width": 3}, "has model.width = 2, this run 3"),
        ({"mean": (0.0,)}, r"by the mean \(0.3059,\), this one by \(0.0,\); .*model.normalize"),
        ({"std": (1.0,)}, r"normalises by the std \(0.3189,\), this one by \(1.0,\)"),
        ({"name": "resnet18"}, "is of model 'preact_resnet18', and this one is 'resnet18'"),
        ({"num_classes": 3}, r"has params/head/bias of shape \(10,\), model 'preact_resnet18' one"),
    ],
)
def test_another_model_is_refused_by_the_setting_that_differs(changes, message):
    workdir = finished_run(**PREACT)
    with pytest.raises(ValueError, match=f"method.start_from = '{workdir}': .*{message}"):
        weights_of(workdir, made(PREACT, **changes), field="start_from")


def test_what_only_acts_in_training_or_in_the_head_may_differ():
    runs = {name: finished_run(**fields) for name, fields in (("a", PREACT), ("b", WIDE))}
    for name, model in (
        ("a", made(PREACT, mean=(0.3059 + 1e-9,), remat=True)),
        ("a", made(PREACT, dtype="bfloat16")),
        ("b", made(WIDE, dropout=0.3)),
    ):
        assert weights_of(runs[name], model, field="start_from")
    other_head = made(PREACT, head="cosine", head_scale=10.0)
    assert weights_of(runs["a"], other_head, field="backbone", besides="head")
    with pytest.raises(ValueError, match=r"has model.head = 'linear', this run 'cosine'"):
        weights_of(runs["a"], other_head, field="start_from")
