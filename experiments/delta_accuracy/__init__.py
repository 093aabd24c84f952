"""P3: the fall of accuracy from MNIST to AlignMNIST (Odgaard, A look into robustness)."""
