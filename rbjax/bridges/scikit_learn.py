"""scikit-learn: a fitted classifier of flattened images, as a black box."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rbjax.bridges.asking import Asked

_WHAT = "the estimator"


def ask(estimator: Any, *weights: Any) -> Asked:
    """Returns how a classifier is asked: images become rows of H W C numbers.

    Its scores are its probabilities where it has some, else what it decides by, else 1 for its
    answer. Classes that are numbers from 0 on keep them, others are counted in the order of
    `classes_`.
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
    is_numbered = np.issubdtype(names.dtype, np.integer) and names.min() >= 0
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
    return Asked(scores, _WHAT, predict=predict, **said)


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
