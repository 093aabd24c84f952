"""CFA's calibration and its average by hand, and what they leave where nothing is calibrated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import command_line, losses, methods
from rbjax import config as schema
from rbjax.methods.cfa import Calibration
from rbjax.testing.training import make_model, make_train_set
from rbjax.training import hooks
from rbjax.training.method import ClassSums, MethodState, Output, Seen
from tests.training.recipes import (
    BATCH,
    CLASSES,
    KEY,
    assert_equal,
    initial,
    make_recipe,
    make_split,
    run,
    told,
)

TRAIN = ClassSums(
    np.array([10.0, 20.0, 40.0]), None, np.array([[5.0, 15.0, 8.0], [3.0, 2.0, 4.0], [0, 0, 0]])
)
LABELS = np.arange(BATCH) % CLASSES


def sizes_of(method, state):
    """Returns how far each image is moved, of a linear model, where the attack fills the ball."""
    images = jnp.full((BATCH, 8, 8, 1), 0.5)

    def logits_fn(x):
        return x.reshape(len(x), -1) @ jnp.linspace(-1, 1, 64 * CLASSES).reshape(64, CLASSES)

    keys = jax.random.split(KEY, BATCH)
    inputs = method.inputs(logits_fn, keys, state, images, jnp.asarray(LABELS))
    moved = inputs[1] if isinstance(inputs, tuple) else inputs
    return np.max(np.abs(moved - images), axis=(1, 2, 3))


def check_loss(method, state, beta):
    """Checks that TRADES' loss is shared out by each class's regularization."""
    clean, perturbed = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    labels = jnp.array([0, 1, 1, 2, 2, 2, 0])
    cross_entropy = losses.create("cross_entropy")
    unused: dict = dict.fromkeys(("logits_fn", "images", "inputs", "keys"))
    seen = Seen(
        outputs=tuple(Output(jnp.asarray(x), None) for x in (clean, perturbed, clean)),
        labels=labels,
        task_loss=lambda logits: cross_entropy(logits, labels),
        state=state,
        **unused,
    )
    p, q = jax.nn.softmax(clean), jax.nn.softmax(perturbed)
    divergence = np.sum(p * (np.log(p) - np.log(q)), axis=1)
    own = beta[labels]
    expected = (cross_entropy(jnp.asarray(clean), labels) + own * divergence) / (1 + own)
    np.testing.assert_allclose(method.loss(seen), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "right"), [("pgd", [0.5, 0.75, 0.2]), ("trades", [0.3, 0.1, 0.1])]
)
def test_radius_and_regularization_by_hand(form, right):
    """Each class's right answers over its own examples, under attack: TRADES' second input."""
    method = methods.cfa(form=form, epsilon=0.04, num_steps=8, warmup_epochs=2)
    state = initial(make_recipe(method))
    early = hooks.after_epoch(method, KEY, state, told(1, train=TRAIN)).method_state
    late = hooks.after_epoch(method, KEY, state, told(2, train=TRAIN)).method_state
    base = {"pgd": 0.5, "trades": 0.3}[form]
    np.testing.assert_allclose(sizes_of(method, early), 0.04, atol=1e-6)
    sizes = sizes_of(method, late)
    np.testing.assert_allclose(sizes, 0.04 * (base + np.array(right))[LABELS], atol=1e-6)
    if form == "trades":
        plain, of_classes = np.full(3, 6.0), 6 * (0.5 + np.array(right))
        for state, beta in ((early, plain), (late, of_classes)):
            check_loss(method, state, beta)


def test_with_every_radius_as_it_was_it_is_pgd():
    split = make_split()
    expected, _ = run(make_recipe(methods.pgd(epsilon=0.1, num_steps=2)), split, num_steps=2)
    recipe = make_recipe(methods.cfa(epsilon=0.1, num_steps=2, lambda_1=0.5, warmup_epochs=1))
    first, _ = run(recipe, split)
    half = TRAIN._replace(correct=TRAIN.count[None] / 2)
    first = hooks.after_epoch(recipe.method, KEY, first, told(1, train=half))
    second, _ = run(recipe, split, state=first)
    assert_equal(second.variables, expected.variables)


def test_steps_are_alike_for_all_classes():
    """TRADES starts beside the image, so that one step is not quite of its length."""
    known = Calibration(np.array([0.0, 0.5, 1.0], np.float32), np.bool_(True), np.bool_(False))
    method = methods.cfa(form="trades", epsilon=0.04, num_steps=1)
    sizes = sizes_of(method, MethodState(known, ()))
    np.testing.assert_allclose(sizes, 0.01, atol=4e-3)


def test_the_average_takes_epochs_that_are_fair():
    """Of which none is before `average_from`; until the first it is the weights as they are."""
    model, dataset = make_model(), make_train_set()
    variables = jax.device_get(model.init(KEY, jnp.zeros((1, *model.image_shape))))
    weights = [jax.tree.map(lambda x, n=n: np.float32(n) * x, variables) for n in range(4)]
    known = Calibration(np.ones(3), np.bool_(False), np.bool_(False))
    state = initial(make_recipe(methods.standard()))
    state = state._replace(ema=weights[3], method_state=MethodState(known, ()))

    def averaged(state, number, variables, **options):
        method = methods.cfa(epsilon=0.0, **options)
        epoch = told(number, model=model, validation_set=dataset)
        state = state._replace(variables=variables)
        return hooks.average(method, KEY, state, epoch, decay=0.85)

    fair, unfair = {"average_threshold": 0.0}, {"average_threshold": 1.0}
    early = averaged(state, 1, weights[1], **fair, average_from=2)
    assert_equal(early.ema, weights[1])
    assert not early.method_state.replicated.is_averaged
    late = averaged(early, 2, weights[2], **unfair, average_from=2)
    assert_equal(late.ema, weights[2])
    first = averaged(late, 3, weights[1], **fair, average_from=2)
    assert_equal(first.ema, weights[1])
    assert first.method_state.replicated.is_averaged
    second = averaged(first, 4, weights[2], **fair, average_from=2)
    expected = jax.tree.map(lambda a, b: 0.85 * a + 0.15 * b, *weights[1:3])
    for a, b in zip(jax.tree.leaves(second.ema), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    third = averaged(second, 5, weights[3], **unfair, average_from=2)
    assert_equal(third.ema, second.ema)
    assert_equal(third.variables, weights[3])


@pytest.mark.parametrize(
    ("decay", "option", "message"),
    [
        (None, {"average_from": 2}, r"average_from is 2; it acts only with an average of the weig"),
        (None, {"average_threshold": 0.0}, r"average_threshold is 0.*optimizer.ema_decay.* at 0.2"),
        (
            0.9,
            {"average_from": 4},
            r"average_from = 4: must be at most num_epochs = 3, or no epoch",
        ),
    ],
)
def test_what_says_of_an_average_what_does_not_come_is_refused(decay, option, message):
    config = schema.default()
    config.update(num_epochs=3)
    config.dataset.validation_fraction = 0.1
    config.optimizer.ema_decay = decay
    config.method.update(name="cfa", warmup_epochs=1, **option)
    with pytest.raises(ValueError, match=message):
        command_line.resolve(config, "runs/cfa")


def test_an_average_needs_a_validation_set():
    config = schema.default()
    config.method.update(name="cfa", warmup_epochs=2)
    command_line.resolve(config.copy_and_resolve_references(), "runs/cfa")
    config.optimizer.ema_decay = 0.85
    with pytest.raises(ValueError, match=r"validation_fraction = 0: the method 'cfa'.*ema_decay"):
        command_line.resolve(config, "runs/cfa")
