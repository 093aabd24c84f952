#!/usr/bin/env bash
# Mean accuracy over classes, of a test set that has no image of one class (a subset, a long tail).
# Two models make one mistake each, on the same image: one answers another class that is present, one
# the class that is not. torchmetrics' macro accuracy counts a class that was predicted and is absent
# as accuracy 0, so that the second model has 0.5 and the first 0.75; scikit-learn's balanced accuracy
# and torcheval's macro accuracy leave the class out and give 0.75 to both. scikit-learn's macro recall,
# which its guide calls the same as balanced accuracy, sides with torchmetrics: 0.5.
# (rbjax's balanced accuracy is the mean over the classes that have images.)
# torch 2.13.0 (CPU), torchmetrics 1.9.0, torcheval 0.0.7, scikit-learn 1.9.1, numpy 2.4.6.
# Exits 0 while it is so, and 1 if that changes.
# Seen:
#   wrong, as a present class: torchmetrics 0.75 torcheval 0.75 balanced_accuracy 0.75 macro recall 0.75
#   wrong, as the absent one:  torchmetrics 0.50 torcheval 0.75 balanced_accuracy 0.75 macro recall 0.50
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv" 2>/dev/null || "${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 \
  torcheval==0.0.7 scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
import warnings
from importlib.metadata import version

import torch
from sklearn.metrics import balanced_accuracy_score, recall_score
from torcheval.metrics.functional import multiclass_accuracy
from torchmetrics.classification import MulticlassAccuracy

warnings.simplefilter("ignore")  # scikit-learn warns of the class, in the second case alone
logging.disable()
for name in ("torch", "torchmetrics", "torcheval", "scikit-learn", "numpy"):
    print(name, version(name))
labels = torch.tensor([0, 0, 1, 1])
wrong = {"as a present class": [0, 0, 1, 0], "as the absent one": [0, 0, 1, 2]}
seen = {}
for name, predicted in wrong.items():
    predictions = torch.tensor(predicted)
    means = {
        "torchmetrics": MulticlassAccuracy(3, average="macro")(predictions, labels).item(),
        "torcheval": multiclass_accuracy(
            predictions, labels, average="macro", num_classes=3
        ).item(),
        "balanced_accuracy": balanced_accuracy_score(labels, predictions),
        "macro recall": recall_score(labels, predictions, average="macro", zero_division=0),
    }
    told = " ".join(f"{metric} {value:.2f}" for metric, value in means.items())
    print(f"  wrong, {name + ':':19} {told}")
    seen[name] = tuple(round(value, 2) for value in means.values())
expected = {"as a present class": (0.75,) * 4, "as the absent one": (0.5, 0.75, 0.75, 0.5)}
sys.exit(seen != expected)
PYTHON
