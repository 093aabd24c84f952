"""P1: what robust training does to dataset bias (Pradhan et al., Rendezvous)."""

import rbjax.analysis  # noqa: F401  before matplotlib, which an inherited MPLBACKEND may break
