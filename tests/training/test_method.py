"""What a method does after an epoch, and fields of it that do not fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import methods
from rbjax.training import hooks
from rbjax.training.method import Epoch, check
from tests.training import toy_methods as toys
from tests.training.recipes import KEY, assert_equal, initial, make_recipe, make_split, run


def told(confusion, number=1) -> Epoch:
    nothing: dict = dict.fromkeys(("train", "train_set", "validation_set", "model"))
    return Epoch(number=number, num_epochs=3, confusion=np.asarray(confusion), **nothing)


def test_a_guard_puts_the_best_weights_back():
    split = make_split()
    recipe = make_recipe(toys.guard())
    good, _ = run(recipe, split)
    good = hooks.after_epoch(recipe.method, KEY, good, told(np.diag([5, 5, 5])))
    worse, _ = run(recipe, split, state=good, num_steps=2)
    back = hooks.after_epoch(recipe.method, KEY, worse, told(np.ones((3, 3), int), number=2))
    assert_equal(back.variables, good.variables)
    assert_equal(back.opt_state, worse.opt_state)
    assert back.step == 3
    better = hooks.after_epoch(recipe.method, KEY, worse, told(np.diag([5, 5, 5]), number=2))
    assert_equal(better.method_state.replicated["variables"], worse.variables)


def test_a_generator_begins_anew_from_the_key_of_its_epoch():
    recipe = make_recipe(toys.noise_generator())
    state = initial(recipe)
    first = hooks.after_epoch(recipe.method, KEY, state, told([[1]], number=1))
    again = hooks.after_epoch(recipe.method, KEY, first, told([[1]], number=1))
    other = hooks.after_epoch(recipe.method, KEY, first, told([[1]], number=2))
    weights = [s.method_state.replicated[0] for s in (state, first, again, other)]
    np.testing.assert_array_equal(weights[1], weights[2])
    assert np.abs(weights[0] - weights[1]).max() > 0.01
    assert np.abs(weights[1] - weights[3]).max() > 0.01


def test_a_state_of_another_form_is_refused_by_name():
    recipe = make_recipe(toys.guard())
    state = initial(recipe)

    def wrong(key, state, epoch):
        return state._replace(method_state=state.method_state._replace(replicated=np.zeros(2)))

    method = recipe.method._replace(after_epoch=wrong)
    with pytest.raises(
        ValueError, match=r"after_epoch returned method_state\.replicated as float64\[2\]"
    ):
        hooks.after_epoch(method, KEY, state, told([[1]]))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (methods.Method(replays=0), "replays is 0"),
        (methods.Method(batch_norm="evil"), "batch_norm 'evil'.*did you mean 'eval'"),
        (methods.Method(gradient=lambda seen, gradients: 0), "needs `update`"),
        ("standard", r"rbjax\.methods\.Method; this one is a str"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        check(method)


def test_a_loss_that_is_not_one_number_per_example_is_refused():
    method = methods.Method(loss=lambda seen: jnp.mean(seen.outputs.logits))
    with pytest.raises(ValueError, match=r"loss has shape \(\); it must be \(16,\)"):
        run(make_recipe(method), make_split())


def test_mixtures_are_refused_where_a_method_needs_one_class():
    methods.check_mixup(methods.standard(), "standard", 0.2)
    methods.check_mixup(methods.pgd(), "pgd", 0.0)
    with pytest.raises(ValueError, match=r"dataset.mixup_alpha = 0.2.*'pgd'.*'standard'"):
        methods.check_mixup(methods.pgd(), "pgd", 0.2)
