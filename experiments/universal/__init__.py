"""How strong universal perturbations are, by their gradient and by what they are crafted on."""
