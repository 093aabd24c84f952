"""The contract suites that rbjax's own parts are held to, for the parts that others write.

    rbjax.testing.check_attack(my_attack(epsilon=8 / 255))

Each check raises an `AssertionError` that says what is not kept, and returns nothing otherwise.
"""

from rbjax.testing.attacks import Strength, check_attack
from rbjax.testing.functions import check_loss, check_perturbation
from rbjax.testing.training import check_method, check_model

__all__ = [
    "Strength",
    "check_attack",
    "check_loss",
    "check_method",
    "check_model",
    "check_perturbation",
]
