"""A grid of runs: each cell once, whatever happens between."""

import contextlib
import re

import numpy as np
import pytest

from rbjax import sweep
from rbjax.analysis.evaluation import read_report
from rbjax.command_line import resolve
from rbjax.errors import NotFiniteError, StoppedError
from rbjax.train import train
from rbjax.training import run_directory
from tests.sweep.grids import config, failing


def test_what_is_finished_is_not_run_again(cells, calls, tmp_path):
    workdir = str(tmp_path / "grid")
    assert sweep.run(cells[:2], workdir).finished == ["cell-0", "cell-1"]
    ended = sweep.run(cells, workdir)
    assert calls == [0, 1, 2, 3]
    assert sorted(ended.finished) == [cell.name for cell in cells]
    results = sweep.read(cells, f"{workdir}/results")
    assert list(results) == [cell.name for cell in cells]
    assert [result["square"] for result in results.values()] == [0, 1, 4, 9]
    # The result's file alone is enough, on another machine too.
    elsewhere = str(tmp_path / "elsewhere")
    sweep.run(cells, elsewhere, results=f"{workdir}/results")
    assert calls == [0, 1, 2, 3]


def test_results_of_cells_that_differ_in_their_seed():
    results = {"a.0": {"x": 1}, "a.2": {"x": 2}, "a.3": {"x": 3}, "b.1": {"x": 4}}
    assert sweep.by_seed(results, lambda seed: f"a.{seed}", 3) == {0: {"x": 1}, 2: {"x": 2}}


def test_what_fails_is_named_and_the_rest_goes_on(cells, calls, tmp_path):
    lines = []
    fails = {1: RuntimeError("out of luck"), 2: NotFiniteError("loss is not finite")}
    ended = sweep.run(failing(cells, calls, fails), str(tmp_path), tell=lines.append)
    assert ended.finished == ["cell-0", "cell-3"]
    assert ended.failed == ["cell-1", "cell-2"]
    assert any("cell-1: failed: RuntimeError: out of luck" in line for line in lines)
    assert "out of luck" in (tmp_path / "failures" / "cell-1.txt").read_text()
    ended = sweep.run(cells, str(tmp_path))
    assert not ended.failed
    assert calls == [0, 1, 2, 3, 1, 2]
    assert not list((tmp_path / "failures").iterdir())


def test_names_with_points_fail_apart(cells, calls, tmp_path):
    fails = {0: RuntimeError("first"), 1: RuntimeError("second")}
    named = [c._replace(name=f"rate-0.{i}") for i, c in enumerate(failing(cells[:2], calls, fails))]
    sweep.run(named, str(tmp_path))
    texts = [(tmp_path / "failures" / f"rate-0.{i}.txt").read_text() for i in range(2)]
    assert "first" in texts[0]
    assert "second" in texts[1]


def test_a_stop_ends_the_grid_and_the_next_call_goes_on(cells, calls, tmp_path):
    stops = failing(cells, calls, {2: StoppedError("stopped")})
    with pytest.raises(StoppedError):
        sweep.run(stops, str(tmp_path))
    assert list(sweep.read(cells, str(tmp_path / "results"))) == ["cell-0", "cell-1"]
    sweep.run(cells, str(tmp_path))
    assert calls == [0, 1, 2, 2, 3]


def test_a_cell_of_another_process_is_left_to_it(cells, calls, tmp_path, in_another_process):
    with in_another_process(tmp_path / "cell-1"):
        ended = sweep.run(cells, str(tmp_path))
    assert ended.elsewhere == ["cell-1"]
    assert calls == [0, 2, 3]


def test_what_another_process_finishes_meanwhile_is_not_run_again(cells, calls, tmp_path):
    def run_and_another(config, workdir):
        if not calls:  # another process takes the last cell while the first one runs
            calls.append(config.seed)
            sweep.run(cells[3:], str(tmp_path))
        return {"square": config.seed**2}

    first = cells[0]._replace(run=run_and_another)
    ended = sweep.run([first, *cells[1:]], str(tmp_path))
    assert sorted(ended.finished) == [cell.name for cell in cells]
    assert calls == [0, 3, 1, 2]


def test_a_cell_that_another_process_finishes_in_the_end_counts(
    cells, calls, tmp_path, in_another_process
):
    with in_another_process(tmp_path / "cell-1") as held:

        def run_and_let_go(config, workdir):
            if config.seed == 3:
                held.release()
                sweep.run(cells[1:2], str(tmp_path))
            return {"square": config.seed**2}

        last = cells[3]._replace(run=run_and_let_go)
        ended = sweep.run([*cells[:3], last], str(tmp_path))
    assert sorted(ended.finished) == [cell.name for cell in cells]
    assert not ended.elsewhere


@pytest.fixture
def in_another_process():
    @contextlib.contextmanager
    def hold(directory):
        lock = run_directory._Lock(directory)
        yield lock
        with contextlib.suppress(OSError):
            lock.release()

    return hold


def test_a_result_of_another_config_is_refused_before_anything_runs(cells, calls, tmp_path):
    sweep.run(cells[:1], str(tmp_path))
    other = cells[0]._replace(config=config(0, rotation_degrees=5.0))
    with pytest.raises(ValueError, match=r"cell-0\.json: .*dataset\.rotation_degrees = None there"):
        sweep.run([other, *cells[1:]], str(tmp_path))
    changed = cells[0]._replace(options={"num_blocks": 5})
    with pytest.raises(ValueError, match=r"num_blocks = None there, 5 here"):
        sweep.run([changed], str(tmp_path))
    assert calls == [0]
    # Where data and runs lie is no part of it.
    moved = cells[0]._replace(config=config(0))
    moved.config.data_dir = "/elsewhere"
    assert sweep.run([moved], str(tmp_path)).finished == ["cell-0"]


def test_a_result_of_other_data_in_the_same_place_is_refused(cells, calls, tmp_path):
    def save(brightness):
        images, labels = np.full((4, 2, 2, 1), brightness, np.uint8), np.arange(4) % 2
        arrays = {"train_images": images, "train_labels": labels}
        np.savez(tmp_path / "own.npz", **arrays, test_images=images, test_labels=labels)

    own = cells[0]._replace(config=config(0, name="npz", path=str(tmp_path / "own.npz")))
    save(0)
    sweep.run([own], str(tmp_path))
    save(1)
    with pytest.raises(ValueError, match=r"cell-0\.json: is of other data .*dataset\.fingerprint"):
        sweep.run([own], str(tmp_path))
    save(0)
    assert sweep.run([own], str(tmp_path)).finished == ["cell-0"]
    (tmp_path / "own.npz").unlink()  # as on a machine that has the results alone
    assert sweep.read([own], str(tmp_path / "results"))["cell-0"] == {"square": 0}
    assert calls == [0]


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "cell-1", "results", "failures"])
def test_names_are_their_own_and_stay_in_the_folder(cells, name, tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"cell {name!r}")):
        sweep.run([cells[0]._replace(name=name), *cells[1:]], str(tmp_path))


def test_a_damaged_result_is_named(cells, tmp_path):
    sweep.run(cells[:1], str(tmp_path))
    file = tmp_path / "results" / "cell-0.json"
    for text in ("[]", "{", '{"result": 1}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"cell-0\.json"):
            sweep.read(cells, str(tmp_path / "results"))


def test_a_job_killed_between_training_and_evaluation_comes_out_the_same(tmp_path):
    def killed(config, workdir):
        train(resolve(config, workdir), workdir)
        raise KeyboardInterrupt

    cell = sweep.Cell("digits", config())
    alone = sweep.run([cell], str(tmp_path / "alone"))
    with pytest.raises(KeyboardInterrupt):
        sweep.run([cell._replace(run=killed)], str(tmp_path / "killed"))
    sweep.run([cell], str(tmp_path / "killed"))
    first, second = (
        sweep.read([cell], str(tmp_path / name / "results")) for name in ("alone", "killed")
    )
    assert alone.finished == ["digits"]
    assert first == second

    result, report = first["digits"], read_report(tmp_path / "alone" / "digits")
    for label in ("clean", "fgsm"):
        confusion = report["results"][label]["confusion"]
        assert result["results"][label]["correct"] == list(np.diag(confusion))
        assert result["results"][label]["predicted"] == list(confusion.sum(axis=0))
    correct = {label: sweep.rows(result, label) for label in ("clean", "fgsm", "worst")}
    assert correct["clean"].shape == (50,)
    assert correct["clean"].sum() == sum(result["results"]["clean"]["correct"])
    np.testing.assert_array_equal(correct["worst"], correct["clean"] & correct["fgsm"])
    labels = sweep.labels(result)
    assert list(np.bincount(labels[correct["fgsm"]], minlength=10)) == list(
        result["results"]["fgsm"]["correct"]
    )
    size = (tmp_path / "alone" / "results" / "digits.json").stat().st_size
    assert size < 4096
