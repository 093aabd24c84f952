import pytest

from rbjax.data import DATASETS
from rbjax.data.__main__ import main


def test_the_card_of_a_dataset_that_is_here(capsys):
    assert main(["digits"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("digits: 10 classes, 16 x 16 x 1, 1,437 train, 360 test\n")
    assert "mean     0.3059" in out
    assert "CC BY 4.0" in out
    assert "  3  3         147      36" in out


def test_the_card_of_a_dataset_that_is_not_here(capsys, tmp_path):
    assert main(["svhn_cropped", f"--data_dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert f"not in {tmp_path}; with a network, `python -m rbjax.data svhn_cropped" in out
    assert "73,257 train, 26,032 test" in out


def test_all_datasets(capsys):
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(DATASETS)


def test_an_unknown_name_is_one_line_and_exit_code_2(capsys):
    assert main(["minst"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "did you mean 'mnist'?" in captured.err


@pytest.mark.real_data
def test_equal_classes_take_one_line(capsys, require_dataset):
    require_dataset("cifar10")
    assert main(["cifar10"]) == 0
    assert "classes  5,000 train, 1,000 test each: airplane, " in capsys.readouterr().out
