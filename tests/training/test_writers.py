"""What a run's metrics are written to besides its log, by name and by three methods."""

import math
import re

import pytest

from rbjax.errors import StoppedError
from rbjax.training.log import MetricsLog, read_metrics
from rbjax.training.writers import Writer, check_writers, create_writers


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def begin(self, workdir, config, first):
        self.told.append(("begin", workdir, config, first))

    def write(self, step, metrics):
        self.told.append((step, dict(metrics)))

    def close(self, is_finished):
        self.told.append("finished" if is_finished else "stopped")


class Broken(Recorder):
    """Has lost its server from a step on."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def write(self, step, metrics):
        if step >= self.step:
            raise ConnectionError("no route to the server")
        super().write(step, metrics)


def test_a_writer_is_told_every_finite_number(tmp_path):
    writer = Recorder()
    with MetricsLog(tmp_path, step=4, writers=[writer], config={"seed": 3}) as log:
        log.write(5, {"loss": 0.5, "bad": math.nan, "recall": [0.25, 1.0], "note": "text"})
    assert writer.told == [
        ("begin", tmp_path, {"seed": 3}, 5),
        (5, {"loss": 0.5, "recall/0": 0.25, "recall/1": 1.0}),
        "finished",
    ]


def test_a_writer_knows_a_stop_from_an_end(tmp_path):
    writer = Recorder()
    log = MetricsLog(tmp_path, step=None, writers=[writer])
    log.write(1, {"loss": 0.5})
    with pytest.raises(StoppedError), log:
        raise StoppedError("stopped")
    assert writer.told == [("begin", tmp_path, {}, 0), (1, {"loss": 0.5}), "stopped"]


def test_a_writer_that_fails_costs_neither_the_log_nor_the_others(tmp_path, caplog):
    broken, other = Broken(step=2), Recorder()
    with MetricsLog(tmp_path, step=None, writers=[broken, other]) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": 0.5})
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3]
    assert broken.told[1:] == [(1, {"loss": 0.5})]
    assert [told[0] for told in other.told[1:-1]] == [1, 2, 3]
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1
    assert re.search(r"Broken failed at step 2: ConnectionError: no route.*goes on", warned[0])


def test_a_writer_that_cannot_begin_is_named_and_the_others_are_closed(tmp_path, monkeypatch):
    first, second = Recorder(), Recorder()
    monkeypatch.setattr(second, "begin", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=r"writer Recorder cannot begin: ZeroDivisionError"):
        MetricsLog(tmp_path, step=None, writers=[first, second])
    assert first.told[-1] == "stopped"


def outside(*, project: str = "ours") -> Writer:
    """Returns a writer of tests.

    Args:
        project: its name.
    """
    writer = Recorder()
    writer.told.append(project)
    return writer


@pytest.mark.parametrize("wrong", [5, "wandb", [Recorder]])
def test_what_is_no_writer_is_named(wrong):
    with pytest.raises(ValueError, match="give a list of objects with the methods begin, write"):
        check_writers(wrong)
    assert check_writers(iter([recorder := Recorder()])) == [recorder]


def test_writers_are_made_by_name(monkeypatch):
    assert create_writers("none") == []
    ours = f"{__name__}:outside"
    made = create_writers(f"tensorboard+{ours}", project="theirs")
    assert [type(writer).__name__ for writer in made] == ["TensorBoard", "Recorder"]
    assert vars(made[1]) == {"told": ["theirs"]}
    with pytest.raises(ValueError, match=r"writer 'tensorbord' is unknown.*mean 'tensorboard'"):
        create_writers("tensorbord")
    with pytest.raises(ValueError, match=r"has no option 'projct'; allowed: project; did you"):
        create_writers(f"tensorboard+{ours}", projct="theirs")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(ValueError, match=rf"{name} is not installed: pip"):
            create_writers(name)


def write_twice(tmp_path, name, **options):
    """Writes steps 1 to 3, is killed after its checkpoint of step 2, and is resumed to 4."""
    for resumed_at, steps in ((None, (1, 2, 3)), (2, (3, 4))):
        writers = create_writers(name, **options)
        with MetricsLog(tmp_path, step=resumed_at, writers=writers, config={"a": {"b": 7}}) as log:
            for step in steps:
                log.write(step, {"epoch": step, "loss": 1 / step, "recall": [0.5, step / 4]})


@pytest.mark.filterwarnings("default")  # of the libraries that it uses
def test_mlflow_has_each_step_once_and_the_config(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    write_twice(tmp_path, "mlflow", experiment="robust", tracking_uri=uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("robust")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (tmp_path.name, "FINISHED")
    assert run.data.params == {"a.b": "7"}
    history = client.get_metric_history(run.info.run_id, "recall/1")
    assert [(value.step, value.value) for value in history] == [
        (step, step / 4) for step in (1, 2, 3, 4)
    ]


@pytest.mark.filterwarnings("default")
def test_wandb_offline_keeps_one_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_twice(tmp_path, "wandb", project="robust")
    runs = sorted(path.name for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert len({name.rpartition("-")[2] for name in runs}) == 1
