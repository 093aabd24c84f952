"""Adversarial noise training (Rusak et al. 2020) on MNIST, with the simple CNN.

Command: python -m rbjax.main --config=configs/ant_mnist.py
ANT1x1: half of the images clean, 30 % with the noise of a generator, 20 % with that of generators
saved after earlier epochs.  There is no published recipe for MNIST; beside that for ImageNet:
- Distance: all noise has an l2 length of 9.7, the paper's 135 by the root of the number of values:
  0.348 a value, as normal noise of deviation 0.5 has it after clipping to [0, 1] (uniform pixels;
  MNIST's are mostly 0, where half of the noise is clipped away and the rest has to be larger).
- Classifier: training begins anew, by Adam at 1e-3, 10 epochs of batches of 128.  The authors
  fine-tune a trained ResNet-50 for 120 epochs of batches of 70, by SGD at 1e-3, a tenth every 60.
- Restarts: the generator begins anew after each epoch, by 1,000 steps of batches of 128.  The
  authors' code does so at the beginning of each, by up to 1,001 steps; the paper has none.
  A restart has twice the steps of an epoch of MNIST, and a twentieth of those of one of ImageNet.
2 % of train is held out.  `configs/evaluate_corruptions.py:mnist_c` takes the run directory.
Variant: `:smoke`, a few seconds on two CPU cores.
"""

from rbjax import config as schema


def get_config(variant: str = "") -> schema.Config:
    config = schema.default()
    config.batch_size = 128
    config.num_epochs = 10
    config.dataset.name = "mnist"
    config.dataset.validation_fraction = 0.02
    config.model.name = "simple_cnn"
    config.model.widths = (16, 32)
    config.method.name = "ant"
    config.method.generator = "1x1"
    config.method.restart_steps = 1000
    config.optimizer.name = "adam"
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e-3
    config.attacks.fgsm = schema.attack("fgsm", epsilon=0.1)
    config.score.max_steps = 0
    return schema.vary(config, variant, smoke=_smoke)


def _smoke(config: schema.Config) -> None:
    config.num_epochs = 2
    config.dataset.max_train_examples = 1280
    config.dataset.max_test_examples = 200
    config.method.restart_steps = 20
