"""P2: accuracy and robustness class by class (Benz et al., Robustness May Be at Odds)."""

import rbjax.analysis  # noqa: F401  before matplotlib, which an inherited MPLBACKEND may break
