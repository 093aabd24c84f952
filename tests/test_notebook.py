"""The notebooks run from the first cell to the last, and were saved with their outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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
}
"""What each notebook has to have printed."""
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
}
"""How large its network is, and how long it trains, crafts and scores, is not what is tested."""


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_saved(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1
    assert not any(out.output_type == "error" for cell in cells for out in cell.outputs)


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(COLAB.parent))
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTENED[path.stem].items():
        (cell,) = (cell for cell in notebook.cells if long in cell.source)
        cell.source = cell.source.replace(long, short)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    text = "".join(
        out.get("text", "") for c in notebook.cells for out in c.get("outputs", []) if "text" in out
    )
    for printed in PRINTED[path.stem]:
        assert printed in text
    assert (tmp_path / f"runs/{path.stem}/overview.png").stat().st_size > 10_000
