"""A trained model in one file: safetensors, with its card in the metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbjax import atomic, models, weights
from rbjax import config as schema
from rbjax.errors import spelled
from rbjax.models import Model, Variables
from rbjax.paths import of_a_file
from rbjax.tables import is_path
from rbjax.trained import card as cards
from rbjax.trained.run import Run
from rbjax.training import posthoc

_DIGEST = "sha256"
_SHOWN = 3


def save(run: Run, path: str | os.PathLike[str], *, licence: str | None = None) -> Path:
    """Saves a trained model as a safetensors file with its card.

    Args:
        run: as from `rbjax.load`.
        path: of the file; its folder must exist, and a file in its place is replaced.
        licence: of the weights, such as "CC-BY-4.0"; None: what the card of a loaded file says,
            else "not stated".

    Returns:
        The path. The tensors are the variables by their dotted names, "params.head.kernel", in
        their own dtypes; `rbjax.load`, and any reader of safetensors, reads them. The metadata are
        JSON texts: `model`, what `models.create` is called with; `class_names`; `checkpoint`, of
        which step; `posthoc`, what was done to the tensors or is to be done to their logits;
        `config`; `data`, checksums and counts of the training set; `evaluation`, counts,
        accuracies and 95 % intervals per class, clean and under each attack; `seeds`; `licence`;
        `versions`; and the SHA-256 of all that.

    Raises:
        ValueError: if it cannot be written there, or for a licence without a name.
    """
    place = writable(run, path)
    if licence is not None and not (isinstance(licence, str) and licence.strip()):
        raise ValueError(
            f"licence is {spelled(licence)}; it must be the name of one, such as 'CC-BY-4.0', or "
            "None for what is known of it"
        )
    tensors = {
        name: np.asarray(leaf) for name, leaf in _named(jax.device_get(run.variables)).items()
    }
    text = cards.to_text(cards.make(run, licence=licence))
    text[_DIGEST] = cards.digest(text, tensors)
    with atomic.replace(place) as file:
        weights.write_safetensors(file, tensors, text)
    return place


def read(path: Path, model: Any = None) -> Run:
    """Reads a model that `save` wrote.

    Args:
        path: of the file.
        model: what makes the architecture, where it is not rbjax's own.

    Raises:
        ValueError: naming the file, if it is damaged or another program's, or needs a module that
            is not named or cannot be imported.
    """
    found = weights.read(path)
    prefix = f"{weights.METADATA}."
    text = {
        name.removeprefix(prefix): value
        for name, value in found.others.items()
        if name.startswith(prefix) and isinstance(value, str)
    }
    try:
        card = cards.from_text(text)
        if text.get(_DIGEST) != cards.digest(text, found.tensors):
            raise ValueError("is damaged: its SHA-256 is not the one that was written")
        return _run(str(path), card, found.tensors, model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError) as error:  # by another hand than ours
        raise ValueError(f"{path}: its card is none ({type(error).__name__}: {error})") from None


def _run(path: str, card: dict[str, Any], tensors: Mapping[str, np.ndarray], given: Any) -> Run:
    model = _model(card["model"], given)
    variables = _variables(model, tensors)
    adjustment = card["posthoc"]["logit_adjustment"]
    if adjustment is not None:
        counts = adjustment["class_counts"]
        model = posthoc.adjust_logits(model, counts, tau=adjustment["tau"])
    return Run(
        path=path,
        model=model,
        variables=jax.device_put(variables),
        class_names=tuple(card["class_names"]),
        config=schema.stored(card["config"]),
        step=card["checkpoint"]["step"],
        checkpoint=card["checkpoint"]["which"],
        history=[],
        report=card["evaluation"],
        card=card,
    )


def writable(run: Any, path: str | os.PathLike[str]) -> Path:
    """Returns where the file of a trained model is written.

    Raises:
        ValueError: if that is no trained model, the folder is missing, or the path is a folder.
    """
    if not isinstance(run, Run):
        raise ValueError(f"run is {spelled(run)}; it must be what rbjax.load returns")
    return of_a_file(path)


def _named(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _model(said: Mapping[str, Any], given: Any) -> Model:
    """Returns the model a card describes; what is not rbjax's is made by what was given only."""
    fields = {name: _with_tuples(value) for name, value in said.items() if name != "options"}
    options = {name: _with_tuples(value) for name, value in said["options"].items()}
    name = str(fields.pop("name"))
    is_ours = name in models.MODELS
    if is_ours and given is not None:
        raise ValueError(f"model = {spelled(given)}: its own is rbjax's {name}; leave it out")
    if not is_ours and given is None:
        raise ValueError(
            f"its model {name!r:.100} is not rbjax's, and a file is not trusted to have it "
            f"imported; if you know it, load the file with model={name!r:.100}, or the class"
        )
    maker: Any = name if is_ours else given
    try:
        return models.create(maker, **fields, **options)
    except ValueError as error:
        if is_ours or not (isinstance(given, str) and is_path(given)):
            raise
        raise ValueError(
            f"{error}; start from the folder that holds it, or set PYTHONPATH"
        ) from None


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _variables(model: Model, tensors: Mapping[str, np.ndarray]) -> Variables:
    """Returns a file's tensors as the variables of its model."""
    template = model.shapes
    here = {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in _named(template).items()}
    there = {name: f"{array.dtype}{list(array.shape)}" for name, array in tensors.items()}
    wrong = [
        f"{spelled(name)} is {there.get(name, 'missing')}, {here.get(name, 'none')} in its model"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(f"its tensors are not its model's: {'; '.join(wrong[:_SHOWN])}{more}")
    # Copied: those of the file go with it.
    leaves = [np.array(tensors[name]) for name in here]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
