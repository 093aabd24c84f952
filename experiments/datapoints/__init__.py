"""P4, "Robustness as Inherent Property of Datapoints", on real MNIST: see `__main__.py`."""
