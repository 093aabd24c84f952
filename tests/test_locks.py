"""The lock files: what pyproject.toml asks for, at versions that it allows, and nothing local."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
AGAIN = "make the lock files anew: docs/containers.md says how"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", ["cpu", "cuda12", "cuda13"])
def test_a_lock_is_what_the_project_asks_for(lock):
    text = (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    entries = [" ".join(e.split()) for e in text.replace("\\\n", " ").splitlines()]
    pinned: dict[str, list[str]] = {}
    for entry in entries:
        requirement, *digests = entry.split(" --hash=sha256:")
        assert digests, f"{entry[:60]}: has no digest"
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests), entry[:60]
        match = re.match(r"([\w.-]+)==([\w.+]+)", requirement)
        assert match, entry[:60]
        name, version = match.groups()
        pinned.setdefault(canonical(name), []).append(version)
    # No index, path or address: whoever installs them takes the index that is theirs.
    assert not re.search(r"://|@|^--|/", text, re.M)
    asked = [*PROJECT["dependencies"]]
    asked += [] if lock == "cpu" else PROJECT["optional-dependencies"][lock]
    for requirement in map(Requirement, asked):
        versions = pinned.get(canonical(requirement.name))
        assert versions, f"{requirement}: not in locks/{lock}.txt; {AGAIN}"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement}, {version}; {AGAIN}"
    has_gpu = f"jax-{lock}-plugin" in pinned
    assert has_gpu == (lock != "cpu")


def test_the_container_file_copies_what_is_there():
    """What a builder would refuse: a folder that is missing, or that .dockerignore leaves out."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in kept, source
    assert re.search(r"^ARG LOCK=cpu$", text, re.M)
