"""Evaluates a run directory under the usual attacks.

Command: python -m rbjax.main --config=configs/evaluate_standard.py --workdir=runs/uat_digits
Dataset, model and weights are the run's own; only `attacks` is taken from here.  An attack whose
epsilon is left out has the run's: `--config.attacks.pgd.epsilon=4/255` gives it another.  What is
usual in l2 and l1 differs between datasets (CIFAR-10: 0.5 and 12).  AutoAttack takes most of the
time.
Variant: `:smoke`, fewer steps and no AutoAttack.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.task = "evaluate"
    config.attacks.fgsm = schema.attack("fgsm")
    config.attacks.iterative = schema.attack("iterative_gradient_sign", num_steps=10)
    config.attacks.pgd = schema.attack("pgd", num_steps=20, num_restarts=2)
    config.attacks.pgd_l2 = schema.attack("pgd", norm="l2", epsilon=0.5, num_steps=20)
    config.attacks.pgd_l1 = schema.attack("pgd", norm="l1", epsilon=4.0, num_steps=50)
    config.attacks.autoattack = schema.attack("autoattack")
    config.attacks.universal = schema.attack("universal")
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.attacks.pgd.num_steps = 2
    config.attacks.pgd_l2.num_steps = 2
    config.attacks.pgd_l1.num_steps = 2
    del config.attacks.autoattack
    config.attacks.universal.num_epochs = 1
