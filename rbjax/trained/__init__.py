"""A trained model as a thing of its own: loaded from a run, saved with a card, exported.

`rbjax.load`, `rbjax.save` and `rbjax.export` are these.
"""

from rbjax.trained.exported import export
from rbjax.trained.loading import load
from rbjax.trained.model_file import save
from rbjax.trained.run import Predictions, Run

__all__ = ["Predictions", "Run", "export", "load", "save"]
