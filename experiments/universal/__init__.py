"""How strong universal perturbations are, by what is taken for their gradient."""
