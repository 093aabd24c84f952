"""Errors of rbjax's own.  What a person gave wrong is a plain `ValueError`."""


class TrainingStoppedError(RuntimeError):
    """Training ended early: the loss is not finite, or the run was asked to stop."""
