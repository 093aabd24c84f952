"""scikit-learn: a fitted classifier of flattened images, as a black box."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked

_WHAT = "the estimator"


def ask(estimator: Any, *weights: Any) -> Asked:
    """Returns how a classifier is asked: images become rows of H W C numbers.

    Its scores are its probabilities where it has some, else what it decides by, else 1 for its
    answer. Classes that are whole numbers from 0 on, integers or floats, keep them: fitted on 1
    to K, an estimator has K + 1 classes, of which it never answers 0. Others are counted in the
    order of `classes_`.
    """
    if weights:
        raise ValueError(f"{_WHAT} holds what it has learnt; give wrap(estimator) alone")
    sklearn: Any = sys.modules["sklearn"]
    name = type(estimator).__name__
    if not sklearn.base.is_classifier(estimator):
        raise ValueError(f"{_WHAT} {name} is no classifier")
    try:
        sklearn.utils.validation.check_is_fitted(estimator)
        names = np.asarray(estimator.classes_)
    except (sklearn.exceptions.NotFittedError, AttributeError):
        raise ValueError(f"{_WHAT} {name} is not fitted; call fit(rows, labels) first") from None
    _refuse_pairs(estimator, len(names))
    is_number = names.dtype.kind in "iuf"
    is_numbered = is_number and bool(np.all((names >= 0) & (names == np.floor(names))))
    columns = names.astype(np.int64) if is_numbered else np.arange(len(names))
    num_classes = int(columns.max()) + 1

    def rows(images: np.ndarray) -> np.ndarray:
        found = images.reshape(len(images), -1)
        wanted = getattr(estimator, "n_features_in_", found.shape[1])
        if found.shape[1] != wanted:
            raise ValueError(
                f"{_WHAT} was fitted on {wanted} numbers a row; an image of shape "
                f"{images.shape[1:]} has {found.shape[1]}"
            )
        return found

    def predict(images: np.ndarray) -> np.ndarray:
        return columns[np.searchsorted(names, estimator.predict(rows(images)))]

    def scores(images: np.ndarray) -> np.ndarray:
        found = rows(images)
        answers = np.full((len(found), num_classes), -np.inf)
        answers[:, columns] = _scores(estimator, found, len(names))
        return _with_on_top(answers, predict(images))

    said: Any = {"on_host": True, "outputs": "scores", "num_classes": num_classes}
    return Asked(scores, _WHAT, predict=predict, digest=lambda: _digest(estimator), **said)


def _refuse_pairs(estimator: Any, num_classes: int) -> None:
    """Raises a ValueError for a support vector machine whose scores are those of pairs."""
    last = estimator
    while inner := getattr(last, "best_estimator_", None) or getattr(last, "steps", None):
        last = inner[-1][1] if isinstance(inner, list) else inner
    is_of_pairs = getattr(last, "decision_function_shape", None) == "ovo" and num_classes > 2
    if is_of_pairs and not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"{_WHAT} {type(last).__name__} has decision_function_shape = 'ovo', a score a pair of "
            "classes; set_params(decision_function_shape='ovr') gives one a class, without fitting "
            "again"
        )


def _digest(estimator: Any) -> str | None:
    """Returns what changes with all that an estimator holds; None for one that is not pickled."""
    try:
        # Pickled once, it is what a file of it gives in another process.
        return sys.modules["joblib"].hash(pickle.loads(pickle.dumps(estimator)))  # noqa: S301
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _scores(estimator: Any, rows: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns logits (B, K) of an estimator, in the order of its classes."""
    if hasattr(estimator, "predict_proba"):
        return np.log(np.maximum(estimator.predict_proba(rows), np.finfo(np.float32).tiny))
    if hasattr(estimator, "decision_function"):
        decided = np.asarray(estimator.decision_function(rows))
        return np.stack([0 * decided, decided], axis=1) if decided.ndim == 1 else decided
    return np.zeros((len(rows), num_classes))


def _with_on_top(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns scores whose first largest is the label's: SVC, for one, decides by other numbers."""
    differs = np.flatnonzero(np.argmax(scores.astype(np.float32), axis=1) != labels)
    scores[differs, labels[differs]] = scores[differs].max(axis=1) + 1
    return scores
