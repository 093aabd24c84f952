"""The notebooks run from the first cell to the last, and were saved with their outputs.

They run in this process, in an IPython shell of their own: a kernel would import and compile all
that the other tests have imported and compiled. Two have a kernel: one sets what JAX reads as it
starts, one shows pictures.
"""

from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient
from traitlets.config import Config

COLAB = Path(__file__).parents[1] / "colab"
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))
PRINTED = {
    "quickstart": ("run directory: runs/quickstart", "universal"),
    "your_own": (
        "all kept",
        "not one an example",
        "lab:halving",
        "lab:rising",
        "run directory: runs/your_own",
    ),
    "attacks": ("clean accuracy", "largest change 16.0/255", "pgd 8/255", "worst", "9: median"),
    "rpr": ("rpr.score", "least robust: a", "9: ", "both 0.", "label,clean_correct"),
    "long_tail": ("run directory: runs/balanced_softmax", "pgd", "tail (5 to 9)"),
    "audit": ("report.html", "finite", "run directory: runs/pgd", "beyond chance"),
}
"""What each notebook has to have printed."""
OF_A_KERNEL = ("quickstart", "your_own")
WRITTEN = {
    "quickstart": ["runs/quickstart/overview.png"],
    "your_own": ["runs/your_own/overview.png"],
    "attacks": ["gallery.png", "epsilons.png", "heat_map.png"],
    "rpr": ["survival.png", "least.png", "most.png"],
    "long_tail": ["runs/balanced_softmax/classwise.png"],
    "audit": ["audit/report.html", "runs/pgd/overview.png"],
}
"""And which pictures and pages written."""
SHORTENED = {
    "quickstart": {
        "config.num_epochs = 20": (
            "config.num_epochs, config.diagnostics = 2, 32\nconfig.model.widths = (4, 8)"
        ),
        "config.score.max_steps = 100": "config.score.max_steps = 10",
        "max_steps=100,": "max_steps=10,",
        'attack("universal", num_epochs=5)': 'attack("universal", num_epochs=1)',
    },
    "your_own": {
        "config.batch_size, config.num_epochs = 32, 10": (
            "config.batch_size, config.num_epochs, config.diagnostics = 32, 2, 32"
        ),
    },
    "attacks": {
        "NUM_STEPS = 300": "images, labels, NUM_STEPS = images[:64], labels[:64], 30",
        "num_steps=20) for n in (4, 8, 16, 32)": "num_steps=2) for n in (4, 8)",
        'entries["apgd"] = rbjax.attacks.apgd(epsilon=16 / 255, num_steps=50)\n': "",
        'entries["square"] = rbjax.attacks.square(epsilon=16 / 255, num_queries=500)\n': "",
        'fmn(norm="l2", num_steps=50)': 'fmn(norm="l2", num_steps=3)',
    },
    "rpr": {"MAX_STEPS = 250": "MAX_STEPS = 10"},
    "long_tail": {
        "config.diagnostics = 32, 30, 0": "config.diagnostics = 32, 1, 0",
        "epsilon=0.05, num_steps=5": "epsilon=0.05, num_steps=1",
        '"pgd", num_steps=20': '"pgd", num_steps=2',
        "compare_runs(*runs)": "compare_runs(*runs, num_steps=2, max_examples=40)",
    },
    "audit": {
        "NUM_STEPS = 300": "NUM_STEPS = 30",
        "some = slice(0, 200)": "some = slice(0, 32)",
        "max_steps=50,": (
            "max_steps=5, entries={'pgd': rbjax.attacks.pgd(epsilon=0.05, num_steps=2)},"
        ),
        "rbjax.attacks.diagnose(\n": "(lambda *_, **__: audit.findings)(\n",  # once is enough
        "config.diagnostics = 64, 15, 0": "config.diagnostics = 64, 1, 0",
        "epsilon=0.05, num_steps=5": "epsilon=0.05, num_steps=1",
        "epsilon=0.05)\ncompared": "epsilon=0.05, num_steps=2, max_examples=40)\ncompared",
    },
}
"""How large its network is, and how long it trains, crafts and scores, is not what is tested."""


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == set(PRINTED)
    first = [nbformat.read(path, as_version=4).cells[1].source for path in NOTEBOOKS]
    assert (
        len({cell[cell.index("if importlib") : cell.index("raise SystemExit")] for cell in first})
        == 1
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_saved(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1
    assert not any(out.output_type == "error" for cell in cells for out in cell.outputs)


def shortened(path: Path) -> nbformat.NotebookNode:
    """Returns a notebook at the size of a test."""
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTENED[path.stem].items():
        (cell,) = (cell for cell in notebook.cells if long in cell.source)
        cell.source = cell.source.replace(long, short)
    return notebook


def check(path: Path, said: str, folder: Path) -> None:
    """Looks for what a notebook has to have printed and written."""
    for printed in PRINTED[path.stem]:
        assert printed in said
    for written in WRITTEN[path.stem]:
        assert (folder / written).stat().st_size > 10_000


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    if path.stem in OF_A_KERNEL:
        monkeypatch.setenv("PYTHONPATH", str(COLAB.parent))
        monkeypatch.setenv("XLA_FLAGS", "")
        monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        resources = {"metadata": {"path": str(tmp_path)}}
        notebook = shortened(path)
        NotebookClient(notebook, timeout=600, resources=resources).execute()
        outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
        check(path, "".join(out.get("text", "") for out in outputs), tmp_path)
        return
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    with capture_output() as said:
        for cell in shortened(path).cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source).raise_error()
    check(path, said.stdout, tmp_path)
