"""Every training method, by its table: one step learns, and remembers only what it declares."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rbjax import losses, methods, models, testing
from rbjax.testing.training import BATCH
from rbjax.testing.training import train as one_step
from rbjax.training import step
from rbjax.training.step import Recipe
from tests.training.recipes import finished_run

QUICK = {
    "pgd": {"epsilon": 0.1, "num_steps": 2},
    "universal": {"epsilon": 0.1},
    # In l2: beside the clean image the divergence is flat, and its signs are those of rounding.
    "trades": {"epsilon": 0.1, "num_steps": 2, "norm": "l2"},
    "classwise_universal": {"epsilon": 0.02, "ascent": "adam"},
    "classwise_pgd": {"epsilon": 0.1, "num_steps": 2, "similarity_weight": 0.1},
    "dafa": {"norm": "l2", "epsilon": 0.1, "num_steps": 2, "warmup_epochs": 1},
    "cfol": {"epsilon": 0.1, "num_steps": 2, "rate": 0.01},
    # Eight images on eight devices; larger heaps are compared in tests/methods/test_shared.py.
    "shared": {"epsilon": 0.1, "num_steps": 2, "heap_size": 1, "weight_perturbation": 0.01},
    "frl": {"epsilon": 0.1, "num_steps": 2},
    "cfa": {"epsilon": 0.1, "num_steps": 2, "warmup_epochs": 1, "average_from": 1},
    "deepaugment": {
        "source": "both",
        "network_steps": 2,
        "edsr_blocks": 2,
        "edsr_width": 4,
        "cae_width": 4,
        "min_edsr_psnr": 0.0,
        "min_cae_psnr": 0.0,
    },
    "free": {"epsilon": 0.1, "num_replays": 2},
    "fast": {"epsilon": 0.1},
    "targeted": {"epsilon": 0.1, "num_steps": 2},
    "mart": {"epsilon": 0.1, "num_steps": 2, "weight_perturbation": 0.01},
    "ant": {"distance": 1.0, "restart_steps": 2, "history": 2},
}
"""Options that a method needs to be quick on eight small images."""


def options(name):
    return {"backbone": finished_run()} if name == "crt" else QUICK.get(name, {})


@pytest.mark.parametrize("name", methods.METHODS)
def test_contract(name):
    """And five steps lower the loss."""
    history = testing.check_method(methods.create(name, **options(name)), num_steps=5)
    assert history[-1].loss[0] < history[0].loss[0]
    assert history[0].examples[0] == BATCH


def test_pgd_of_radius_0_is_standard_training():
    pgd = methods.create("pgd", epsilon=0.0, step_size=0.1, num_steps=2)
    _, standard, _ = one_step(methods.create("standard"))
    _, robust, _ = one_step(pgd)
    for a, b in zip(
        jax.tree.leaves(standard.variables), jax.tree.leaves(robust.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_pgd_trains_on_harder_images():
    _, _, standard = one_step(methods.create("standard"))
    _, _, robust = one_step(methods.create("pgd", epsilon=0.3, num_steps=5))
    assert robust[0].loss[0] > standard[0].loss[0]


@pytest.mark.parametrize("form", ["simultaneous", "alternating"])
def test_universal_steps_by_the_sign_of_the_mean_gradient(form):
    """From delta = 0 the first step is epsilon times a sign, where the gradient is not 0."""
    _, last, _ = one_step(methods.create("universal", epsilon=0.1, form=form))
    delta = last.method_state.replicated.delta
    assert delta.shape == (8, 8, 1)
    moved = delta[delta != 0]
    assert len(moved) > 32
    np.testing.assert_allclose(np.abs(moved), 0.1, rtol=1e-6)


def test_both_forms_of_universal_agree_as_the_learning_rate_goes_to_0():
    """The forms differ only in whose weights delta's gradient is taken at."""
    options = {"epsilon": 0.1, "norm": "l2", "step_size": 0.05}
    deltas = {}
    for rate in (1e-6, 1.0):
        deltas[rate] = [
            one_step(
                methods.create("universal", form=form, **options), num_steps=2, learning_rate=rate
            )[1].method_state.replicated.delta
            for form in ("simultaneous", "alternating")
        ]
    np.testing.assert_allclose(*deltas[1e-6], atol=1e-5)
    assert np.abs(deltas[1.0][0] - deltas[1.0][1]).max() > 1e-4


@pytest.mark.parametrize("alternating", [False, True])
def test_a_method_learns_from_the_losses_its_gradient_belongs_to(alternating):
    """Alternating: those after the weights' step."""
    base = methods.standard()
    method = base._replace(
        init=lambda *args: base.init(*args)._replace(replicated=np.float32(0)),
        gradient=lambda seen, input_gradients: seen.losses.mean(),
        update=lambda seen, input_gradients, mean: seen.state._replace(replicated=mean),
        alternating=alternating,
    )
    _, last, history = one_step(method, num_steps=2)
    losses_ = [float(metrics.loss[0]) for metrics in history]
    seen = float(last.method_state.replicated)
    if alternating:
        assert seen < losses_[1] - 1e-4
    else:
        assert seen == pytest.approx(losses_[1], rel=1e-6)


def test_batch_norm_while_crafting_is_what_the_method_says():
    recipe = Recipe(
        model=models.create(
            "simple_cnn", num_classes=3, image_shape=(8, 8, 1), mean=(0.5,), std=(0.25,)
        )._replace(
            apply=lambda variables, images: "running statistics",
            apply_train=lambda variables, images, keys: ("the batch's own", {}),
        ),
        method=methods.standard(),
        loss_fn=losses.create("cross_entropy"),
        optimizer=optax.sgd(0.1),
        augment=lambda key, image: image,
        steps_per_epoch=1,
    )
    for mode, expected in (("eval", "running statistics"), ("train", "the batch's own")):
        method = methods.create("pgd", epsilon=0.1, attack_batch_norm=mode)
        logits_fn = step._crafting_logits(recipe._replace(method=method), {}, jax.random.key(0))
        assert logits_fn(jnp.zeros((1, 8, 8, 1))) == expected


def test_clipped_loss_leaves_lost_examples_out():
    """All losses lie above the clip: nothing climbs, delta stays 0."""
    _, last, _ = one_step(methods.create("universal", epsilon=0.1, loss_clip=1e-3))
    np.testing.assert_array_equal(last.method_state.replicated.delta, 0.0)


def test_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match=r"'univrsal'.*did you mean 'universal'"):
        methods.create("univrsal")
