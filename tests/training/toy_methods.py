"""Training methods of other kinds than rbjax's own: what the form of a method must have room for.

Each is written from `rbjax.methods.Method` alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rbjax.methods import Method, MethodState, Prepared


def noise_generator(*, epsilon=0.3, learning_rate=0.01) -> Method:
    """A linear generator of noise that climbs the loss, by Adam, and begins anew each epoch."""
    optimizer = optax.adam(learning_rate)

    def fresh(key, size):
        weights = 0.1 * jax.random.normal(key, (4, size))
        return weights, optimizer.init(weights)

    def noise(weights, keys, shape):
        codes = jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)
        return epsilon * jnp.tanh(codes @ weights).reshape(shape)

    def init(key, setting):
        return MethodState(fresh(key, int(np.prod(setting.model.image_shape))), ())

    def inputs(logits_fn, keys, state, images, labels):
        return jnp.clip(images + noise(state.replicated[0], keys, images.shape), 0, 1)

    def gradient(seen, input_gradients):
        def generate(weights):
            return noise(weights, seen.keys, seen.images.shape)

        return jax.vjp(generate, seen.state.replicated[0])[1](input_gradients)[0]

    def update(seen, input_gradients, gradient):
        weights, opt_state = seen.state.replicated
        updates, opt_state = optimizer.update(-gradient, opt_state, weights)
        return seen.state._replace(replicated=(optax.apply_updates(weights, updates), opt_state))

    def after_epoch(key, state, epoch):
        replicated = fresh(key, state.method_state.replicated[0].shape[1])
        return state._replace(method_state=state.method_state._replace(replicated=replicated))

    return Method(init, inputs, gradient=gradient, update=update, after_epoch=after_epoch)


def validation_weights() -> Method:
    """Weights of classes in proportion to their error on the validation set, of mean 1."""

    def init(key, setting):
        return MethodState(jnp.ones(setting.model.num_classes), ())

    def weights(seen):
        return seen.state.replicated[seen.labels]

    def after_epoch(key, state, epoch):
        errors = 1.01 - np.diag(epoch.confusion) / np.maximum(epoch.confusion.sum(axis=1), 1)
        new = (errors / errors.mean()).astype(np.float32)
        return state._replace(method_state=state.method_state._replace(replicated=new))

    return Method(init, weights=weights, after_epoch=after_epoch)


def guard() -> Method:
    """Weights that do worse on the validation set than the best so far are put back."""

    def init(key, setting):
        best = {"accuracy": jnp.float32(-1.0), "variables": setting.variables}
        return MethodState(best, ())

    def after_epoch(key, state, epoch):
        best = state.method_state.replicated
        accuracy = np.float32(np.trace(epoch.confusion) / epoch.confusion.sum())
        if accuracy < best["accuracy"]:
            return state._replace(variables=best["variables"])
        best = {"accuracy": accuracy, "variables": state.variables}
        return state._replace(method_state=state.method_state._replace(replicated=best))

    return Method(init, after_epoch=after_epoch)


def new_head(variables) -> Method:
    """A head of its own on a backbone that was trained before and stays as it is.

    Args:
        variables: a trained network's.
    """

    def prepare(key, train_set, model):
        own = model.init(key, jnp.zeros((1, *model.image_shape)))
        params = {**variables["params"], "head": own["params"]["head"]}
        return Prepared(variables={**variables, "params": params})

    return Method(prepare=prepare, trains=lambda path: path.startswith("head/"), batch_norm="eval")


def class_means(*, pull=0.5) -> Method:
    """Pulls features towards the mean of their class over the whole batch."""

    def sums(seen):
        of_class = jax.nn.one_hot(seen.labels, seen.outputs.logits.shape[1])
        return of_class.T @ seen.outputs.features, of_class.sum(axis=0)

    def loss(seen):
        total, count = seen.sums
        means = (total / jnp.maximum(count, 1)[:, None])[seen.labels]
        distance = jnp.sum((seen.outputs.features - means) ** 2, axis=1)
        return seen.task_loss(seen.outputs.logits) + pull * distance

    return Method(sums=sums, loss=loss, features=True, mixup=True)


def two_views() -> Method:
    """Two augmentations of an image through the network as one batch, with one prediction."""

    def loss(seen):
        first, second = (jax.nn.log_softmax(output.logits) for output in seen.outputs)
        return seen.task_loss(first) + jnp.sum((first - second) ** 2, axis=1)

    return Method(views=2, together=True, loss=loss)


def half_the_data(calls: list) -> Method:
    """Trains on the images of half of the examples, turned to their negatives beforehand."""

    def prepare(key, train_set, model):
        calls.append(1)
        kept = train_set.take(np.arange(train_set.num_examples // 2))
        images = 255 - np.asarray(kept.images)
        return Prepared(
            type(kept)(kept.info, kept.split, images, kept.labels, kept.index, kept.example_ids)
        )

    return Method(prepare=prepare)
