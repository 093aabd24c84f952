"""What real PyTorch wrote is read bit for bit, and plain values beside it are kept."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rbjax import weights
from tests.weights import by_hand, known

FILES = Path(__file__).parent / "files"
BOTH = ("", "_legacy")


def assert_same_bits(got: np.ndarray, expected: np.ndarray):
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("file", ["dtypes.pt", "dtypes_legacy.pt", "dtypes.safetensors"])
def test_every_dtype(file):
    read = weights.read(FILES / file)
    names = set(known.DTYPES) - ({"complex128"} if "safe" in file else set())
    assert set(read.tensors) == names
    assert read.skipped == ()
    assert read.others == ({"__metadata__.format": "pt"} if "safe" in file else {})
    for name, tensor in read.tensors.items():
        assert_same_bits(tensor, known.of_dtype(name))


@pytest.mark.parametrize("form", BOTH)
def test_views_of_storages(form):
    base, numbers = known.base(), known.of_dtype("complex64")
    expected = {
        "base": base,
        "transposed": base.transpose(2, 0, 1),
        "strided": base[1::2, 1:4, ::3],
        "expanded": np.broadcast_to(base[0, 0, 0], (3, 2)),
        "last": base[-1, -1, -1:],
        "tied": base,
        "empty": np.empty((0, 3), np.float32),
        "scalar": base[1, 2, 3].reshape(()),
        "conjugate": numbers.conj(),
        "negative": -np.imag(numbers),
        "parameter": base[0],
        "tagged": np.ones(2, np.float32),
    }
    read = weights.read(FILES / f"views{form}.pt")
    assert (set(read.tensors), read.others, read.skipped) == (set(expected), {}, ())
    for name, tensor in expected.items():
        assert_same_bits(read.tensors[name], tensor)
    assert np.shares_memory(read.tensors["base"], read.tensors["tied"])
    assert np.shares_memory(read.tensors["base"], read.tensors["strided"])


@pytest.mark.parametrize("form", BOTH)
def test_a_checkpoint_keeps_plain_values_and_names_the_rest(form):
    read = weights.read(FILES / f"checkpoint{form}.pt")
    state = {name: tensor for name, tensor in read.tensors.items() if "state_dict" in name}
    assert_same_bits(
        state["state_dict.module.conv.weight"], known.weight("conv.weight", (2, 3, 3, 3))
    )
    assert_same_bits(state["state_dict.module.fc.bias"], known.weight("fc.bias", (3,)))
    tracked = state["state_dict.module.norm.num_batches_tracked"]
    assert (tracked.shape, tracked.dtype, len(state)) == ((), np.int64, 8)
    momentum = read.tensors["optimizer.state.0.momentum_buffer"]
    assert_same_bits(momentum, np.ones((3, 2), np.float32))
    assert_same_bits(read.tensors["mean"], np.array([0.5, 0.25], np.float32))
    assert read.skipped == (
        "args: argparse.Namespace",
        "when: datetime.date",
        "sparse: torch._utils._rebuild_sparse_tensor",
    )
    others = {name: said for name, said in read.others.items() if "optimizer" not in name}
    assert others == {
        "epoch": 150,
        "arch": "resnet50",
        "best": 0.875,
        "milestones": [50, 75],
        "counts.a": 2,
        "by_class.0": 1.5,
        "by_class.1": None,
        "names": {"cat"},
        "device": "cuda:0",
        "dtype": "torch.float16",
        "size": (3, 32, 32),
        "args.lr": 0.1,
        "args.data": "cifar",
        "args.sizes": (1, 2),
        "raw": b"\x00\xff",
    }
    assert read.others["optimizer.param_groups.0.momentum"] == 0.9


def test_code_that_dill_wrote_is_skipped():
    read = weights.read(FILES / "dill.pt")
    assert_same_bits(read.tensors["model.fc.weight"], known.weight("fc.weight", (3, 2)))
    assert read.others == {"epoch": 90, "meter.average": 0.5, "meter.history": [0.25, 0.75]}
    assert read.skipped[0] == "meter: dill._dill._create_type('Meter')"
    assert {"dill._dill._create_code", "builtins.setattr"} <= set(read.skipped)


@pytest.mark.parametrize("form", BOTH)
def test_a_module_saved_whole(form):
    read = weights.read(FILES / f"module{form}.pt")
    expected = {
        "_parameters.weight": known.weight("outer", (2, 2)),
        "_buffers.mean": known.weight("outer mean", (2,)),
        "_modules.part._parameters.weight": known.weight("inner", (2, 2)),
        "_modules.part._buffers.mean": known.weight("inner mean", (2,)),
    }
    assert set(read.tensors) == set(expected)
    for name, tensor in expected.items():
        assert_same_bits(read.tensors[name], tensor)
    assert read.skipped == ("__main__.Parts", "_modules.part: __main__.Parts")


def test_checksums_that_torch_was_told_not_to_compute():
    tensor = weights.read(FILES / "without_checksums.pt").tensors["inner"]
    assert_same_bits(tensor, known.weight("inner", (2, 2)))


def test_tensors_are_parts_of_the_file_and_go_into_jax():
    for file in ("dtypes.pt", "dtypes_legacy.pt", "dtypes.safetensors"):
        tensors = weights.read(FILES / file).tensors
        assert not any(
            tensor.flags.owndata or tensor.flags.writeable for tensor in tensors.values()
        )
        for name in ("float32", "bfloat16"):
            assert_same_bits(np.asarray(jnp.asarray(tensors[name])), known.of_dtype(name))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("compress", [False, True])
def test_byte_orders_and_compression(tmp_path, order, compress):
    six = np.arange(6.0, dtype=np.float32)
    storages: dict[str, tuple[str, np.ndarray]] = {
        "0": ("FloatStorage", six),
        "1": ("ComplexFloatStorage", six.astype(np.complex64) * (1 + 2j)),
        "2": ("BoolStorage", six % 2 == 0),
        "3": ("BFloat16Storage", six.astype(jnp.bfloat16)),
    }
    content = {}
    for key, (_, array) in storages.items():
        swapped = array.view(np.uint16).byteswap() if key == "3" else array.byteswap()
        content[key] = (swapped if order == "big" else array).tobytes()
    saved = {key: by_hand.tensor(key, storage=kind) for key, (kind, _) in storages.items()}
    path = by_hand.write_zip(tmp_path / "a.pt", saved, content, order=order, compress=compress)
    read = weights.read(path)
    for key, (_, array) in storages.items():
        assert_same_bits(read.tensors[key], array.reshape(2, 3))


def test_views_of_storages_before_torch_1_6(tmp_path):
    content = np.arange(10.0, dtype=np.float32)
    saved = {
        "whole": by_hand.tensor("a", length=10, view=(None,)),
        "part": by_hand.tensor("a", length=10, view=(("b", 4, 6),)),
    }
    path = by_hand.write_legacy(tmp_path / "a.pt", saved, {"a": (10, content.tobytes())})
    read = weights.read(path)
    assert_same_bits(read.tensors["whole"], content[:6].reshape(2, 3))
    assert_same_bits(read.tensors["part"], content[4:].reshape(2, 3))
