"""How far do attacks end from the smallest adversarial perturbation, where that can be solved for?

    python -m experiments.parity.exact --peers=PYTHON

Models small enough for it: linear ones, in closed form, and one hidden layer of 8 ReLUs, by a
program for each pattern of what is on (`solve.py`). Ours at their defaults beside foolbox,
torchattacks, ART and secml-torch; the figures are in results.md.
"""
