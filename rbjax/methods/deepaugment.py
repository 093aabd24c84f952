"""DeepAugment: images through networks whose weights and activations are distorted at random."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rbjax import prng
from rbjax.data import Dataset
from rbjax.inputs import to_float
from rbjax.methods.augmix import augmix as augmix_method
from rbjax.methods.idle import refuse_idle
from rbjax.models import Model, cae, edsr
from rbjax.models.image_to_image import ImageToImage, Params
from rbjax.models.noise2net import noise2net
from rbjax.options import Count, NotNegative, Range, Share, checked
from rbjax.progress import Progress, progress_bar
from rbjax.training.method import Method, MethodState, Prepared, Setting
from rbjax.training.reconstruction import fit, psnr
from rbjax.typing import Array, Key, LogitsFn

_REDRAWN = 0.05
"""Of the images, at which share the weights are distorted anew; the others share the last draw."""
_SIZE = 8
"""Images that pass at once: about twenty share their weights."""
_NOISY, _NOISY_ELSEWHERE = {"cpu": 8}, 64
"""Images that pass at once through a Noise2Net, each through its own: few where the cache is small,
many where each operation is launched (a guess, not measured)."""
_HELD_OUT = 1000
"""The most images that a network is not trained on; else a twentieth."""
_IDS = 2**29
"""Ids of images are below this, and those of their copies above."""


@checked
def deepaugment(
    *,
    source: Literal["noise2net", "networks", "both"] = "noise2net",
    augmix: bool = False,
    augmix_severity: Annotated[float, Range(low=0.1, high=10.0)] = 3.0,
    noise_epsilon: NotNegative = 0.75,
    noise_share: Share = 0.5,
    network_steps: Count = 4000,
    edsr_blocks: Annotated[int, Range(low=2, high=64)] = 8,
    edsr_width: Annotated[int, Range(low=1, high=1024)] = 64,
    cae_width: Annotated[int, Range(low=4, high=1024)] = 64,
    min_edsr_psnr: Annotated[float, Range(low=0.0, high=100.0, unit="dB")] = 20.0,
    min_cae_psnr: Annotated[float, Range(low=0.0, high=100.0, unit="dB")] = 16.0,
) -> Method:
    """Returns DeepAugment.

    min_w E loss(f_w(x'), y), x' an image x or what distorted networks make of it:

    - "networks": the training set is x, EDSR(x) and CAE(x), thrice its size.  Before training, both
      networks learn to give the training images back, and each must do so well enough on some that
      it was not trained on; then each image passes once through each.  Their weights are distorted
      at random, anew for one image in 20, and their activations for each.
    - "noise2net": half of the time, an image passes through a random network of its own.
    - "both": an image of the threefold set passes through such a network half of the time.

    With AugMix, x' is what AugMix starts from, and its Jensen-Shannon loss is minimised.

    The networks are trained here and on these images alone, of their own size; the published ones
    were trained on other images, and enlarge: results are not comparable with published numbers.
    On a long tail they are trained on that long tail.  The run directory keeps the copies.

    Args:
        source: what makes the images; `noise_*` act only with "noise2net" and "both", what is said
            of EDSR and the CAE only with "networks" and "both".
        augmix: whether AugMix follows (what Noise2Net gives is clipped to [0, 1] then).
        augmix_severity: of its operations; only with `augmix`.
        noise_epsilon: Noise2Net's blocks are added with a weight uniform in [epsilon / 2, epsilon],
            in the units of the model's normalisation; 0: the images stay.
        noise_share: how often an image passes through a Noise2Net.
        network_steps: updates of EDSR and of the CAE, of 16 images each.
        edsr_blocks: residual blocks of EDSR.
        edsr_width: its channels.
        cae_width: channels of the CAE's first layer.
        min_edsr_psnr: what EDSR must reach on held-out training images, enlarging them from half
            their size; below, nothing is trained.  Measured on CIFAR-10: 12.1 untrained, 25.6 after
            150 steps; on MNIST cubic enlargement gives 19.6.
        min_cae_psnr: what the CAE must reach on them.  Measured on CIFAR-10: 5.6 untrained, 12.2
            by their mean alone (on scikit-learn's digits 13.6), and with a quarter of the width
            12.6 after 300 steps, 17.4 after 1,000.

    Returns:
        The method.

    Raises:
        ValueError: for options that are set and do nothing with this source, or without AugMix.

    Source:
        Hendrycks et al. 2021, arXiv:2006.16241, section 4 and appendix; the distortions and how
        often they are drawn as in hendrycks/imagenet-r (commit 3131cac).
    """
    if not augmix:
        refuse_idle(deepaugment, "augmix = true", augmix_severity=augmix_severity)
    if source == "networks":
        needed = "source = 'noise2net' or 'both'"
        refuse_idle(deepaugment, needed, noise_epsilon=noise_epsilon, noise_share=noise_share)
    if not noise_share:
        refuse_idle(deepaugment, "noise_share above 0", noise_epsilon=noise_epsilon)
    if not noise_epsilon:
        refuse_idle(deepaugment, "noise_epsilon above 0", noise_share=noise_share)
    if source == "noise2net":
        of_networks = {"network_steps": network_steps, "edsr_blocks": edsr_blocks}
        of_networks |= {"edsr_width": edsr_width, "cae_width": cae_width}
        of_networks |= {"min_edsr_psnr": min_edsr_psnr, "min_cae_psnr": min_cae_psnr}
        refuse_idle(deepaugment, "source = 'networks' or 'both'", **of_networks)
    method = augmix_method(severity=augmix_severity) if augmix else Method()
    if source != "networks":
        method = _with_noise(method, epsilon=noise_epsilon, share=noise_share, clipped=augmix)
    if source == "noise2net":
        return method

    def prepare(key: Key, train_set: Dataset, model: Model) -> Prepared:
        del model
        channels, mean = train_set.info.image_shape[-1], tuple(map(float, train_set.info.mean))
        networks = {
            "edsr": edsr.create(
                channels=channels, mean=mean, num_blocks=edsr_blocks, width=edsr_width
            ),
            "cae": cae.create(channels=channels, width=cae_width),
        }
        least = {"edsr": min_edsr_psnr, "cae": min_cae_psnr}
        return Prepared(_threefold(key, train_set, networks, network_steps, least))

    return method._replace(prepare=prepare)


def _with_noise(base: Method, *, epsilon: float, share: float, clipped: bool) -> Method:
    """Returns a method some of whose images pass through a Noise2Net before all else.

    Args:
        base: a method that remembers nothing.
        epsilon: the option `noise_epsilon`.
        share: likewise.
        clipped: whether what the networks give is.

    Returns:
        The method; its state is the model's normalisation.
    """

    def init(key: Key, setting: Setting) -> MethodState:
        del key
        mean, std = setting.model.mean, setting.model.std
        if not std or (not any(mean) and set(std) == {1.0}):
            raise ValueError(
                "noise2net adds noise in the units of the model's normalisation, and this model "
                "has none; take source = 'networks'"
            )
        return MethodState((jnp.float32(mean), jnp.float32(std)), ())

    def inputs(
        logits_fn: LogitsFn, keys: Key, state: MethodState, images: Array, labels: Array
    ) -> Any:
        mean, std = state.replicated

        def noisy(size: Key, own: Key, image: Array) -> Array:
            drawn = prng.uniform(size, minval=epsilon / 2, maxval=epsilon)
            return noise2net(own, image, mean=mean, std=std, epsilon=drawn)

        split = jax.vmap(lambda key: prng.split(prng.named(key, "noise2net"), 3), out_axes=1)
        which, size, own = split(keys)
        is_noisy = jax.vmap(partial(prng.bernoulli, p=share))(which)
        images = _changed(jax.vmap(noisy), is_noisy, size, own, images)
        if clipped:
            images = jnp.clip(images, 0, 1)
        return base.inputs(logits_fn, keys, state, images, labels)

    return base._replace(init=init, inputs=inputs)


def _changed(
    change: Callable[[Key, Key, Array], Array],
    is_changed: Array,
    size: Key,
    own: Key,
    images: Array,
) -> Array:
    """Returns images of which some are changed, in blocks of those alone: the others cost nothing.

    How many they are differs from batch to batch, since each image's key says whether it is one.
    The authors change the first half of a batch; what an image becomes would depend on its place.
    """
    number = len(images)
    step = min(_NOISY.get(jax.default_backend(), _NOISY_ELSEWHERE), number)
    rows = jnp.flatnonzero(is_changed, size=-(-number // step) * step, fill_value=number)

    def block(place: Array, changed: Array) -> Array:
        own_rows = jax.lax.dynamic_slice_in_dim(rows, place * step, step)
        parts = (x.at[own_rows].get(mode="clip") for x in (size, own, images))
        return changed.at[own_rows].set(change(*parts), mode="drop")

    return jax.lax.fori_loop(0, -(-jnp.sum(is_changed) // step), block, images)


def _threefold(
    key: Key,
    train_set: Dataset,
    networks: Mapping[str, ImageToImage],
    num_steps: int,
    least: Mapping[str, float],
) -> Dataset:
    """Returns a training set and its copies by networks, which are trained for it."""
    images = np.asarray(train_set.images[:])
    sets = [images]
    for name, network in networks.items():
        own = prng.named(key, name)
        params, reached = _trained(own, network, images, num_steps)
        if reached < least[name]:
            raise ValueError(
                f"{network.name} gives held-out images back with a PSNR of {reached:.1f} dB, and "
                f"method.min_{name}_psnr is {least[name]:g}: raise method.network_steps, "
                f"{num_steps} now, or lower method.min_{name}_psnr"
            )
        sets.append(distorted(own, network, params, images, train_set.example_ids))
    return dataclasses.replace(
        train_set,
        images=np.concatenate(sets),
        labels=np.tile(train_set.labels, len(sets)),
        index=np.tile(train_set.index, len(sets)),
        example_ids=np.concatenate(
            [train_set.example_ids + number * _IDS for number in range(len(sets))]
        ).astype(np.int32),
    )


def distorted(
    key: Key, network: ImageToImage, params: Params, images: np.ndarray, example_ids: np.ndarray
) -> np.ndarray:
    """Returns each image as a distorted network gives it back.

    The weights are distorted with the key of the nearest image up to here whose own key says so,
    one in 20; the activations with each image's own.

    Args:
        key: one key.
        network: which.
        params: its weights.
        images: (N, H, W, C) uint8.
        example_ids: (N,).

    Returns:
        (N, H, W, C) uint8, cut to 8 bits as published, not rounded.
    """
    made, activations = np.empty_like(images), prng.named(key, "activations")
    redrawn = np.flatnonzero(_redraws(prng.named(key, "redraw"), example_ids)[1:]) + 1
    bounds = [0, *redrawn.tolist(), len(images)]
    with progress_bar(f"{network.name}, distorted") as tell:
        for first, end in itertools.pairwise(bounds):
            drawn = prng.fold_in(prng.named(key, "weights"), int(example_ids[first]))
            own = network.distort_weights(drawn, params)
            for start in range(first, end, _SIZE):
                rows = np.arange(start, min(start + _SIZE, end))
                padded = np.resize(rows, _SIZE)
                outputs = _block(network, own, activations, images[padded], example_ids[padded])
                made[rows] = np.asarray(outputs)[: len(rows)]
                tell(Progress("", int(rows[-1]) + 1, len(images)))
    return made


@jax.jit
def _redraws(key: Key, example_ids: Array) -> Array:
    keys = prng.per_example(key, example_ids)
    return jax.vmap(partial(prng.bernoulli, p=_REDRAWN))(keys)


@partial(jax.jit, static_argnums=0)
def _block(network: ImageToImage, params: Params, key: Key, images: Array, ids: Array) -> Array:
    output = network.distort(params, to_float(images), prng.per_example(key, ids))
    return jnp.floor(255 * output).astype(jnp.uint8)


def _trained(
    key: Key, network: ImageToImage, images: np.ndarray, num_steps: int
) -> tuple[Params, float]:
    """Returns a network's weights, and its PSNR on images that it was not trained on, in dB."""
    if len(images) < 2:
        raise ValueError("a network needs two images: one to be trained on, one to be tested on")
    order = np.asarray(prng.permutation(prng.named(key, "held out"), len(images)))
    held_out, rest = np.split(order, [min(max(len(order) // 20, 1), _HELD_OUT)])
    params = fit(prng.named(key, "fit"), network, images[rest], num_steps=num_steps)
    reached = psnr(network, params, images[held_out])
    print(
        f"deepaugment: {network.name}, {num_steps:,} steps on {len(rest):,} training images, "
        f"PSNR {reached:.1f} dB on {len(held_out):,} others"
    )
    return params, reached
