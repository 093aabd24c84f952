import re

import pytest

from rbjax.data import DATASETS, storage
from rbjax.data.__main__ import main

CIFAR10 = "airplane, automobile, bird, cat, deer, dog, frog,"

# The lines of each card that say what the dataset is, on a machine that has none of them.
CARDS = {
    "mnist": [
        "mnist: 10 classes, 28 x 28 x 1, 60,000 train, 10,000 test",
        "mean     0.1307   (train, pixels in [0, 1])",
        "licence  CC BY-SA 3.0",
        "  5  5       5,421     892",
    ],
    "fashion_mnist": [
        "fashion_mnist: 10 classes, 28 x 28 x 1, 60,000 train, 10,000 test",
        "classes  6,000 train, 1,000 test each: T-shirt/top, Trouser, Pullover,",
        "licence  MIT",
    ],
    "cifar10": [
        "cifar10: 10 classes, 32 x 32 x 3, 50,000 train, 10,000 test",
        f"classes  5,000 train, 1,000 test each: {CIFAR10}",
        "file     cifar-10-binary.tar.gz, 170,052,171 bytes, SHA-256",
    ],
    "cifar100": [
        "cifar100: 100 classes, 32 x 32 x 3, 50,000 train, 10,000 test",
        "classes  500 train, 100 test each: apple, aquarium_fish, baby,",
        "20 superclasses",
        "  insects: bee, beetle, butterfly, caterpillar, cockroach",
        "  vehicles_2: lawn_mower, rocket, streetcar, tank, tractor",
    ],
    "svhn_cropped": [
        "svhn_cropped: 10 classes, 32 x 32 x 3, 73,257 train, 26,032 test",
        "  1  1      13,861   5,099",
        "licence  for non-commercial use only",
    ],
    "droughtwatch": [
        "droughtwatch: 4 classes, 65 x 65 x 11, 86,317 train, 10,778 test",
        "std      0.1970 0.1950 0.1860 0.1920 0.1680 0.1720 0.1830 0.1870 0.4170 0.1080 0.1080",
        "bands    B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B11",
        "file     dw_train_86K_val_10K.zip, about 2.15 GB, no published checksum,",
        "         or copy the folder rbjax/mapped/droughtwatch of a machine that has it prepared",
        "classes  0 cows, 1 cow, 2 cows, 3 cows",
    ],
    "alignmnist": [
        "alignmnist: 10 classes, 28 x 28 x 1, 60,000 train, 60,000 block_1 to block_75 alike",
        "first    download alignmnist.npz, about 4 GB, from the page of its authors",
        "  9  9       5,949   5,949",
    ],
    "cifar100_superclasses": [
        "cifar100_superclasses: 20 classes, 32 x 32 x 3, 50,000 train, 10,000 test",
        "classes  2,500 train, 500 test each: aquatic_mammals, fish, flowers,",
    ],
    "tiny_imagenet": [
        "tiny_imagenet: 200 classes, 64 x 64 x 3, 100,000 train, 10,000 test",
        "classes  500 train, 50 test each: n01443537, n01629819, n01641577, ..., n12267677",
    ],
    "imagenet2012": [
        "         or copy the folder imagenet2012 of a machine that has it prepared",
        "imagenet2012: 1000 classes, 224 x 224 x 3, 1,281,167 train, 50,000 test",
        "classes  50 test each: n01440764, n01443537, n01484850, ..., n15075141",
        "first    register at https://image-net.org/download-images",
        "held     as stored, decoded during use",
    ],
    "imagenet_lt": [
        "imagenet_lt: 1000 classes, 224 x 224 x 3, 115,846 train, 20,000 validation, 50,000 test",
        "file     ImageNet_LT_train.txt, 4,658,674 bytes, SHA-256",
    ],
    "cifar10_corrupted": [
        "cifar10_corrupted: 10 classes, 32 x 32 x 3, 10,000 test",
        "configs  cifar10_corrupted/ and one of these, each with _1 to _5: gaussian_noise",
        "file     CIFAR-10-C.tar, 2,918,471,680 bytes, SHA-256",
    ],
    "cifar10_corrupted/fog_3": ["cifar10_corrupted/fog_3: 10 classes, 32 x 32 x 3, 10,000 test"],
    "mnist_corrupted": [
        "mnist_corrupted: 10 classes, 28 x 28 x 1, 60,000 train, 10,000 test",
        "configs  mnist_corrupted/ and one of: identity shot_noise impulse_noise glass_blur",
    ],
    "imagenet2012_corrupted": [
        "imagenet2012_corrupted: 1000 classes, 224 x 224 x 3, 50,000 test",
        "classes  50 test each: n01440764,",
    ],
    "cifar10_1/v4": ["cifar10_1/v4: 10 classes, 32 x 32 x 3, 2,021 test", f"classes  {CIFAR10}"],
    "cifar10_1/v6": [f"classes  200 test each: {CIFAR10}"],
}


@pytest.mark.parametrize("name", CARDS)
def test_the_card_of_a_dataset_that_is_not_here(name, capsys, tmp_path):
    assert main([name, f"--data_dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    lines = [re.sub(r"\s+$", "", line) for line in out.splitlines()]
    for expected in CARDS[name]:
        assert any(line.startswith(expected) for line in lines), f"{expected}\n---\n{out}"
    assert f"stored   not in {tmp_path}" in lines
    command = f"python -m rbjax.data {name}"
    if DATASETS.get(name) and DATASETS[name].configs:
        command += f"/{DATASETS[name].configs[0]}"
    assert f"get it   {command} --prepare" in lines
    assert f"         {command} --prepare --from=URL_OR_PATH" in lines
    assert list(tmp_path.iterdir()) == []


def test_every_dataset_has_a_golden_card():
    bases = {name.partition("/")[0] for name in CARDS}
    assert bases == set(DATASETS) - {"digits", "alignmnist_generated"}


def test_the_card_of_a_dataset_that_is_here(capsys):
    assert main(["digits"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("digits: 10 classes, 16 x 16 x 1, 1,437 train, 360 test\n")
    assert "mean     0.3059" in out
    assert "CC BY 4.0" in out
    assert "stored   in scikit-learn" in out
    assert "  3  3         147      36" in out


def test_what_is_generated_needs_mnist(capsys, tmp_path):
    assert main(["alignmnist_generated", f"--data_dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "first    prepare mnist, of which it is made" in out
    assert "--prepare" not in out


def test_configs_that_are_here_are_named(capsys, tmp_path):
    folder = tmp_path / "cifar10_corrupted" / "fog_3" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    assert storage.find("cifar10_corrupted/fog_3", tmp_path) == folder
    assert main(["cifar10_corrupted", f"--data_dir={tmp_path}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # a long folder breaks the line
    assert f"stored {tmp_path}/cifar10_corrupted: fog_3 classes" in shown


def test_all_datasets(capsys):
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DATASETS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minst"], "did you mean 'mnist'?"),
        (["cifar10_corrupted/fgo_3"], "did you mean 'fog_3'?"),
        (
            ["cifar10_corrupted", "--prepare"],
            "name one, such as cifar10_corrupted/gaussian",
        ),
        (["mnist", "--from=/here"], "from = '/here': only with --prepare"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.real_data
def test_equal_classes_take_one_line(capsys, require_dataset):
    require_dataset("cifar10")
    assert main(["cifar10"]) == 0
    assert "classes  5,000 train, 1,000 test each: airplane, " in capsys.readouterr().out
