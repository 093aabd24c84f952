"""P4, "Robustness as Inherent Property of Datapoints", on real MNIST: see `__main__.py`."""

import rbjax.analysis  # noqa: F401  before matplotlib, which an inherited MPLBACKEND may break
