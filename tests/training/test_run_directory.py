"""A run directory is one config's for good; nothing is written over."""

import pytest

from rbjax import atomic
from rbjax.training import run_directory

CONFIG = {
    "seed": 0,
    "workdir": "runs/a",
    "model": {"name": "simple_cnn", "widths": (8, 16), "dropout": None},
    "attacks": {},
}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def changed(**fields):
    return {**CONFIG, **fields}


def test_a_new_directory_holds_its_config(tmp_path):
    workdir = tmp_path / "deep" / "run"
    assert run_directory.prepare(workdir, CONFIG) is False
    expected = {**CONFIG, "model": {**CONFIG["model"], "widths": [8, 16]}}
    assert run_directory.read_config(workdir) == expected
    assert [p.name for p in workdir.iterdir()] == ["config.json"]


def test_an_empty_directory_is_taken(tmp_path):
    assert run_directory.prepare(tmp_path, CONFIG) is False


def test_the_same_config_continues_and_changes_nothing(tmp_path):
    run_directory.prepare(tmp_path, CONFIG)
    (tmp_path / "metrics.jsonl").write_text("kept")
    before = contents(tmp_path)
    elsewhere = changed(workdir="/somewhere/else", data_dir="/data")
    assert run_directory.prepare(tmp_path, elsewhere) is True
    assert contents(tmp_path) == before


def test_another_config_is_refused_by_field_and_nothing_is_written(tmp_path):
    run_directory.prepare(tmp_path, CONFIG)
    before = contents(tmp_path)
    other = changed(seed=1, model={"name": "vgg_p5", "widths": (8, 16)}, loss={"name": "x"})
    with pytest.raises(ValueError, match="belongs to another config") as error:
        run_directory.prepare(tmp_path, other)
    message = str(error.value)
    for part in (
        str(tmp_path),
        "seed = 0 there, 1 here",
        'model.name = "simple_cnn" there, "vgg_p5" here',
        "model.dropout = null there, absent here",
        'loss.name = absent there, "x" here',
        "give another workdir",
    ):
        assert part in message
    assert "widths" not in message
    assert "\n" not in message
    assert contents(tmp_path) == before


def test_of_many_differences_the_first_few_are_named(tmp_path):
    run_directory.prepare(tmp_path, {f"field_{i}": 0 for i in range(9)})
    with pytest.raises(ValueError, match=r"field_4 .*; and 4 more") as error:
        run_directory.prepare(tmp_path, {f"field_{i}": 1 for i in range(9)})
    assert "field_5" not in str(error.value)


def test_ignored_fields_may_be_whole_groups(tmp_path):
    run_directory.prepare(tmp_path, {"seed": 0, "attacks": {"pgd": {"epsilon": 0.1}}})
    other = {"seed": 0, "attacks": {"fgsm": {"epsilon": 0.2}}}
    assert run_directory.prepare(tmp_path, other, ignored=("attacks",)) is True
    with pytest.raises(ValueError, match=r"attacks\.fgsm\.epsilon"):
        run_directory.prepare(tmp_path, other, ignored=("attack",))


def test_a_group_that_lost_its_fields_is_another_config(tmp_path):
    run_directory.prepare(tmp_path, {"attacks": {}})
    with pytest.raises(ValueError, match="attacks"):
        run_directory.prepare(tmp_path, {})


def test_somebody_elses_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds thesis\.tex and no config\.json"):
        run_directory.prepare(tmp_path, CONFIG)
    assert contents(tmp_path) == before


def test_a_file_is_no_run_directory(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ValueError, match="is a file"):
        run_directory.prepare(path, CONFIG)


def test_what_a_killed_start_left_behind_does_not_stand_in_the_way(tmp_path):
    (tmp_path / f".config.json.0a1b2c3d{atomic.TEMPORARY}").write_text('{"seed"')
    assert run_directory.prepare(tmp_path, CONFIG) is False
    assert run_directory.read_config(tmp_path)["seed"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, r"has no config\.json"), ('{"seed": ', "not JSON"), ("[]", "not the config")],
)
def test_reading_from_what_is_no_run_directory(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        run_directory.read_config(tmp_path)


def test_reading_from_nowhere(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        run_directory.read_config(tmp_path / "missing")
