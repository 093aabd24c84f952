"""Which processes are one run, and what they tell one another, by a store in memory."""

import json
import threading
import time

import pytest

from rbjax import processes, stops, watch
from rbjax.errors import LostProcessError, exit_code
from rbjax.processes import Place


def test_a_spec_is_two_words_or_a_place():
    assert processes.parse("auto") is processes.parse("off") is None
    assert processes.parse("node1:1234,4,3") == Place("node1:1234", 4, 3)
    assert processes.parse("[::1]:1234,2,0") == Place("[::1]:1234", 2, 0)
    for wrong in ("on", "", "n:1234", "n:1234,2,2", "n:0,2,0", "n:99999,2,0", "a b:1,2,0"):
        with pytest.raises(ValueError, match=r"distributed = .*allowed are auto, off, and HOST"):
            processes.parse(wrong)


LAUNCHED = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500", "WORLD_SIZE": "4", "RANK": "3"}


def test_a_launcher_says_it_in_the_environment():
    assert processes.started({}) is None
    assert processes.started({**LAUNCHED, "RANK": ""}) is None
    assert processes.started(LAUNCHED) == Place("node1:29500", 4, 3)
    several = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert processes.started({**LAUNCHED, **several}) == Place("node1:29501", 4, 3, (1,))
    assert processes.started({**LAUNCHED, "MASTER_ADDR": "::1"}) == Place("[::1]:29500", 4, 3)
    with pytest.raises(ValueError, match="RANK = '4': these are not of one run"):
        processes.started({**LAUNCHED, "RANK": "4"})


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_what_can_only_be_alone_is_not_looked_for(environment, asked):
    assert processes._may_be_one_of_several(environment) is asked


def test_alone_nothing_is_shared():
    with processes.joined("auto"):
        assert processes.is_first()
        assert processes.of_first(lambda: 3) == 3
        assert watch.is_to_say("anything")
        assert not watch.stopping()
    with pytest.raises(ValueError, match="distributed = 'of'"), processes.joined("of"):
        pass
    assert exit_code(LostProcessError("")) == watch.LOST


class Store:
    """The key-value store of a coordinator."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        if key in self.values and not allow_overwrite:
            raise ValueError("ALREADY_EXISTS")
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def blocking_key_value_get(self, key, milliseconds):
        until = time.monotonic() + milliseconds / 1000
        while key not in self.values:
            if time.monotonic() > until:
                raise ValueError("DEADLINE_EXCEEDED")
            time.sleep(0.001)
        return self.values[key]


@pytest.fixture
def pair(monkeypatch):
    """The watches of two processes, and the ends that they put to them: (process, code, line)."""
    for name in ("_SECONDS_BETWEEN", "_GRACE", "_TO_END"):
        monkeypatch.setattr(watch, name, 0.01)
    monkeypatch.setattr(watch, "_SILENCE", 0.1)
    store, ends = Store(), []
    watches = [watch._Watch(store, index, 2, 1) for index in range(2)]
    for own in watches:

        def end(code, line, own=own):
            ends.append((own.index, code, line))
            own._over.set()

        monkeypatch.setattr(own, "_end", end)
    yield watches, ends
    for own in watches:
        own.stop()


def within_a_second(condition):
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def test_all_stop_at_the_place_after_the_furthest(pair, monkeypatch):
    watches, ends = pair
    is_asked = threading.Event()
    monkeypatch.setattr(stops, "asked", is_asked.is_set)
    made = {0: 0, 1: 0}

    def work(own):
        while not own.passes():
            made[own.index] += 1
            time.sleep(0.001 + 0.002 * own.index)  # one is ahead of the other

    threads = [threading.Thread(target=work, args=(own,)) for own in watches]
    for thread in (*watches, *threads):
        thread.start()
    time.sleep(0.05)
    is_asked.set()
    for thread in threads:
        thread.join(timeout=5)
    assert made[0] == made[1] > 0
    assert ends == []


def test_who_is_silent_is_lost_and_who_has_ended_is_not(pair):
    watches, ends = pair
    watches[0].start()
    watches[1].start()
    time.sleep(0.2)
    assert ends == []
    watches[1].stop()
    assert within_a_second(lambda: ends)
    ((index, code, line),) = ends
    assert (index, code) == (0, watch.LOST)
    assert line.startswith("process 1 of this run is lost; the same command goes on")


@pytest.mark.parametrize(("code", "line"), [(74, "process 0 ended: full"), (75, None), (0, None)])
def test_an_end_is_everyones_with_its_code(pair, code, line):
    watches, ends = pair
    watches[1].start()
    watches[0].say("ended/0", json.dumps([code, "full"]))
    if not code:
        watches[1].await_first()
        assert ends == []
        return
    assert within_a_second(lambda: ends)
    assert ends == [(1, code, line)]
