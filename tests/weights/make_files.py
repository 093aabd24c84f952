"""Makes the files in `files`, by a PyTorch in an environment of its own.

Commands: `pip install torch==2.13.0 dill==0.4.1 safetensors==0.8.0 numpy ml_dtypes`, and
`python tests/weights/make_files.py`.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import warnings
from pathlib import Path
from typing import Any

import dill  # pyright: ignore[reportMissingImports]
import known  # pyright: ignore[reportMissingImports]
import numpy as np
import safetensors.torch  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).parent / "files"


class Meter:
    """An object beside the weights, whose code dill writes into the file."""

    def __init__(self) -> None:
        self.average, self.history = 0.5, [0.25, 0.75]

    def update(self, value: float) -> None:
        """Counts a value."""
        self.history.append(value)


class Net(torch.nn.Module):
    """A convolution, batch norm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(2)
        self.fc = torch.nn.Linear(2, 3)
        for name, parameter in self.named_parameters():
            parameter.data = torch.from_numpy(known.weight(name, tuple(parameter.shape)))

    def forward(self, x: Any) -> Any:
        """Returns logits."""
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Parts(torch.nn.Module):
    """A module saved whole: a parameter, a buffer, and a part that is such a module."""

    def __init__(self, part: Any = None) -> None:
        super().__init__()
        name = "outer" if part is not None else "inner"
        self.weight = torch.nn.Parameter(torch.from_numpy(known.weight(name, (2, 2))))
        self.register_buffer("mean", torch.from_numpy(known.weight(f"{name} mean", (2,))))
        self.part = part


def of_dtype(name: str) -> Any:
    """Returns the tensor of that dtype, bit for bit."""
    array = known.of_dtype(name)
    flat = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
    return flat.view(getattr(torch, name)).reshape(array.shape)


def views() -> dict[str, Any]:
    """Returns parts of one storage, tensors that are one, and tensors with something left to do."""
    base = torch.from_numpy(known.base())
    numbers = torch.from_numpy(known.of_dtype("complex64").copy())
    tagged = torch.ones(2)
    tagged.tag = "kept by torch"
    return {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "strided": base[1::2, 1:4, ::3],
        "expanded": base[0, 0, 0].expand(3, 2),
        "last": base[-1, -1, -1:],
        "tied": base,
        "empty": torch.empty(0, 3),
        "scalar": base[1, 2, 3],
        "conjugate": numbers.conj(),
        "negative": numbers.clone().conj().imag,
        "parameter": torch.nn.Parameter(base[0]),
        "tagged": tagged,
    }


def checkpoint() -> dict[str, Any]:
    """Returns what a training script saves."""
    net = torch.nn.DataParallel(Net())
    optimizer = torch.optim.SGD(net.module.fc.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer.step()
    net.load_state_dict(before)
    return {
        "epoch": 150,
        "arch": "resnet50",
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "best": np.float64(0.875),
        "mean": np.array([0.5, 0.25], np.float32),
        "milestones": [50, 75],
        "counts": collections.Counter(a=2),
        "by_class": {0: 1.5, 1: None},
        "names": {"cat"},
        "device": torch.device("cuda", 0),
        "dtype": torch.float16,
        "size": torch.Size([3, 32, 32]),
        "args": argparse.Namespace(lr=0.1, data="cifar", sizes=(1, 2)),
        "when": datetime.date(2020, 1, 2),
        "sparse": torch.eye(2).to_sparse(),
        "raw": b"\x00\xff",
    }


def main() -> None:
    """Writes all files."""
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    dtypes = {name: of_dtype(name) for name in known.DTYPES}
    said = {"dtypes": dtypes, "views": views(), "checkpoint": checkpoint()}
    for name, saved in said.items():
        torch.save(saved, FOLDER / f"{name}.pt")
        torch.save(saved, FOLDER / f"{name}_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(Parts(Parts()), FOLDER / "module.pt")
    legacy = FOLDER / "module_legacy.pt"
    torch.save(Parts(Parts()), legacy, _use_new_zipfile_serialization=False)
    with_code = {"model": Net().state_dict(), "epoch": 90, "meter": Meter()}
    torch.save(with_code, FOLDER / "dill.pt", pickle_module=dill)
    del dtypes["complex128"]  # which safetensors has no name for
    safetensors.torch.save_file(dtypes, FOLDER / "dtypes.safetensors", {"format": "pt"})
    torch.serialization.set_crc32_options(False)
    torch.save({"inner": Parts().weight.data}, FOLDER / "without_checksums.pt")


if __name__ == "__main__":
    main()
