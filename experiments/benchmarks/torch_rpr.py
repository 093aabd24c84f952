"""The peer of `experiments.benchmarks.rpr`: the same scoring, written by hand in PyTorch.

    python torch_rpr.py FOLDER

Run by `experiments.benchmarks.rpr` in an environment of its own that has PyTorch and not rbjax.
Reads weights, images and labels from FOLDER/peer.npz, then one JSON request a line, and answers
each with one line of JSON, so that both sides take turns in one run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

_LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


def make_model(arrays: dict[str, np.ndarray]) -> nn.Module:
    """Returns the simple CNN with the weights of rbjax's."""
    layers: list[nn.Module] = []
    for name in ("conv0", "conv1"):
        kernel = torch.from_numpy(arrays[f"{name}_kernel"]).permute(3, 2, 0, 1)
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:])
        layer.weight.data = kernel.contiguous()
        layer.bias.data = torch.from_numpy(arrays[f"{name}_bias"])
        layers += [layer, nn.ReLU(inplace=True)]
    # rbjax flattens rows, columns, channels; PyTorch channels, rows, columns.
    width = layers[2].out_channels
    height = arrays["mapped_height"].item()
    kernel = torch.from_numpy(arrays["head_kernel"])
    kernel = kernel.reshape(height, -1, width, kernel.shape[1]).permute(3, 2, 0, 1)
    head = nn.Linear(kernel[0].numel(), kernel.shape[0])
    head.weight.data = kernel.reshape(kernel.shape[0], -1).contiguous()
    head.bias.data = torch.from_numpy(arrays["head_bias"])
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), head)


class Scorer:
    """A model with its images, on the fastest device there is."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = make_model(arrays).eval().to(self.device)
        self.images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
        self.images = self.images.to(self.device)
        self.labels = torch.from_numpy(arrays["labels"]).to(self.device)
        shape = (1, -1, 1, 1)
        self.mean = torch.from_numpy(arrays["mean"]).reshape(shape).to(self.device)
        self.std = torch.from_numpy(arrays["std"]).reshape(shape).to(self.device)
        self.layout = torch.contiguous_format

    def use_layout(self, name: str) -> None:
        """Brings weights and batches into a memory layout."""
        self.layout = _LAYOUTS[name]
        self.model = self.model.to(memory_format=self.layout)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits of images in [0, 1]."""
        x = (images - self.mean) / self.std
        return self.model(x.contiguous(memory_format=self.layout))

    def perturb(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images with 1 to floor(sqrt(pixels)) distinct pixels of uniform value."""
        number, channels, height, width = images.shape
        most = int((height * width) ** 0.5)
        order = torch.rand(number, height * width, device=self.device)
        positions = order.topk(most, dim=1, sorted=True).indices
        count = torch.randint(1, most + 1, (number, 1), device=self.device)
        chosen = torch.arange(most, device=self.device)[None] < count
        flat = images.reshape(number, channels, -1)
        positions = positions[:, None].expand(-1, channels, -1)
        values = torch.rand(number, channels, most, device=self.device)
        values = torch.where(chosen[:, None], values, flat.gather(2, positions))
        return flat.scatter(2, positions, values).reshape(images.shape)

    def score_batches(self, max_steps: int, batch_size: int) -> int:
        """Scores all images, draw by draw, those that fail dropped; returns the draws made."""
        alive = torch.arange(len(self.images), device=self.device)
        num_draws = 0
        for _ in range(max_steps):
            failed = [
                self.logits(self.perturb(self.images[rows])).argmax(1) != self.labels[rows]
                for rows in alive.split(batch_size)
            ]
            num_draws += len(alive)
            alive = alive[~torch.cat(failed)]
            if len(alive) == 0:
                break
        return num_draws

    def score_singly(self, max_steps: int, num_images: int) -> int:
        """Scores the first images, one by one, draw by draw; returns the draws made."""
        num_draws = 0
        for row in range(num_images):
            image, label = self.images[row : row + 1], self.labels[row]
            for _ in range(max_steps):
                num_draws += 1
                if self.logits(self.perturb(image)).argmax() != label:
                    break
        return num_draws

    def forward(self, num_passes: int, batch_size: int) -> int:
        """Classifies so many images, rounded up to a batch, as they are; returns how many."""
        batch = self.images[torch.arange(batch_size, device=self.device) % len(self.images)]
        num_batches = -(-num_passes // batch_size)
        for _ in range(num_batches):
            self.logits(batch)
        return num_batches * batch_size

    def draw_only(self, num_passes: int, batch_size: int) -> int:
        """Draws so many perturbations without a model, rounded up to a batch."""
        batch = self.images[torch.arange(batch_size, device=self.device) % len(self.images)]
        num_batches = -(-num_passes // batch_size)
        for _ in range(num_batches):
            self.perturb(batch)
        return num_batches * batch_size


def first_failures(scorer: Scorer, path: str) -> list[int]:
    """Returns the first failures on perturbed images from a file, (N, T, H, W, C)."""
    arrays = np.load(path)
    perturbed = torch.from_numpy(arrays["perturbed"])
    labels = torch.from_numpy(arrays["labels"]).to(scorer.device)
    result = []
    for images, label in zip(perturbed, labels, strict=True):
        logits = scorer.logits(images.permute(0, 3, 1, 2).to(scorer.device))
        failed = torch.nonzero(logits.argmax(1) != label)
        result.append(int(failed[0]) + 1 if len(failed) else len(images) + 1)
    return result


def answer(scorer: Scorer, request: dict) -> dict:
    """Returns the answer to one request."""
    task = request["task"]
    if task == "versions":
        return {"torch": torch.__version__, "device": str(scorer.device)}
    options = request["options"]
    if task == "first_failures":
        return {"first_failure": first_failures(scorer, **options)}
    scorer.use_layout(request["layout"])
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    _synchronize(scorer.device)
    began = time.perf_counter()
    num_draws = getattr(scorer, task)(**options)
    _synchronize(scorer.device)
    return {"num_draws": num_draws, "seconds": time.perf_counter() - began}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def requests() -> Iterator[dict]:
    """Yields what is asked, until the input ends."""
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Answers requests until there are no more."""
    with np.load(Path(sys.argv[1]) / "peer.npz") as arrays:
        scorer = Scorer(dict(arrays))
    with torch.inference_mode():
        for request in requests():
            print(json.dumps(answer(scorer, request)), flush=True)


if __name__ == "__main__":
    main()
