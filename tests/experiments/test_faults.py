"""The campaign of faults: what counts as survived, and that it goes on where it stood."""

import json
import random

import pytest

from experiments.benchmarks.faults import __main__ as program
from experiments.benchmarks.faults import checks, jobs
from experiments.benchmarks.faults.checks import Trial


def test_a_check_goes_on_where_it_stood_and_its_table_adds_up(tmp_path):
    seeds, found = [], [Trial(5, 5), Trial(3, 2, 1), Trial(2, 0, lost="differs in log")]

    def trial(seed):
        seeds.append(seed)
        return found[len(seeds) - 1]

    check = program.Check("kill", "free: kill -9", 10, lambda: True, lambda: True, trial)
    file = program._file(tmp_path, check)
    program.run(check, file, until=float("-inf"))
    assert not file.exists()
    for _ in range(2):  # the second has nothing left to do
        program.run(check, file, until=float("inf"))
    assert len(set(seeds)) == 3
    lines = program.table(tmp_path, [check]).splitlines()
    assert lines[2] == "| free: kill -9 | yes | yes | 10 | 7 | 1 | 2 |"
    assert lines[3] == "<!-- differs in log -->"
    first, *trials = map(json.loads, file.read_text().splitlines())
    assert first == {"control": True, "planted": True}
    assert [line["tries"] for line in trials] == [5, 3, 2]


@pytest.mark.parametrize(
    ("code", "said", "left", "trial"),
    [
        (0, "", {"log": "a"}, Trial(1, 1)),
        (0, "", {"log": "b"}, Trial(1, 0, lost="x: differs in log")),
        (0, "", {}, Trial(1, 0, lost="x: differs in log")),
        (2, "rbjax: it is damaged\n", {}, Trial(1, 0, 1)),
        (1, "Traceback: KeyError", {}, Trial(1, 0, lost="x: exit code 1, Traceback: KeyError")),
    ],
)
def test_what_is_identical_or_refused_in_one_line_is_survived(code, said, left, trial):
    assert checks._judged({"log": "a"}, "x", code, said, lambda: left) == trial


def test_a_flipped_bit_is_one_bit_and_a_cut_is_shorter(tmp_path):
    content = bytes(range(64))
    for seed in range(20):
        (tmp_path / "file").write_bytes(content)
        checks.flip(tmp_path, random.Random(seed))
        flipped = (tmp_path / "file").read_bytes()
        assert sum((a ^ b).bit_count() for a, b in zip(content, flipped, strict=True)) == 1
        checks.truncate(tmp_path, random.Random(seed))
        cut = (tmp_path / "file").read_bytes()
        assert flipped.startswith(cut)
        assert len(cut) < len(flipped)


def test_what_depends_on_the_clock_is_not_compared(tmp_path):
    for rate in (1.0, 2.0):
        line = {"step": 1, "train/loss": 0.5, "images_per_second": rate}
        (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        assert set(jobs.found(tmp_path)) == {"log"}
        if rate == 1.0:
            before = jobs.found(tmp_path)
    assert jobs.found(tmp_path) == before
