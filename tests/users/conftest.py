"""What a person has who installed rbjax: its wheel, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """The variables of a shell in which the wheel is installed; nothing is fetched for it.

    The environment sees the libraries of the one that runs the tests, and of rbjax the wheel alone.
    """
    folder = tmp_path_factory.mktemp("installed")
    for name in ("rbjax", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    only = ["--no-index", "--no-deps"]
    built = [*pip, "wheel", *only, "--no-build-isolation", "--wheel-dir", str(folder / "wheels")]
    subprocess.run([*built, str(folder / "source")], check=True, env=variables)
    own = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(own)], check=True)
    python = ["--python", str(own / "bin" / "python")]
    install = [*pip, *python, "install", *only, f"--find-links={folder / 'wheels'}", "rbjax"]
    subprocess.run(install, check=True, env=variables)
    libraries = next(own.glob("lib/python*/site-packages"))
    (libraries / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    shutil.rmtree(folder / "source")
    nowhere = "http://127.0.0.1:9"  # a proxy that nobody is
    variables |= {"PATH": f"{own / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(own)}
    variables |= {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": "localhost"}
    return variables | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
