"""The page of two runs compared: which is better beyond chance, of all images and of each class."""

from __future__ import annotations

from pathlib import Path

from rbjax.analysis import document, inline
from rbjax.analysis.document import Cell, Document, Listed, Made, Section, Table, Tile, Words
from rbjax.analysis.paired import plot_paired
from rbjax.analysis.plots import NAMED
from rbjax.compared import Compared
from rbjax.console import printable
from rbjax.rpr import Comparison


def write(path: Path, compared: Compared) -> None:
    """Writes the page.

    Args:
        path: of the file; it is replaced as a whole or not at all.
        compared: two runs.
    """
    first, second = map(printable, compared.names)
    about = compared.about
    data = f"{about['dataset']}, {about['split']} split, " if "dataset" in about else ""
    number = next(iter(compared.whole.values())).count
    steps = [f", weights after step {step}" for step in about.get("step", ())] or ["", ""]
    how = (
        f"{data}{number:,} images of {len(compared.class_names)} classes; "
        f"first: {first}{steps[0]}; second: {second}{steps[1]}."
    )
    what = (
        "Differences are those of the second less the first, image by image, with paired 95 % "
        "intervals (Tango). A run is better where McNemar's exact test says so at 5 %; of classes "
        "corrected for their number (Holm). Both are attacked from the same random starts, which "
        "are not those of their own reports: there PGD may differ by chance."
    )
    title = f"{second} beside {first}" + (f" on {about['dataset']}" if "dataset" in about else "")
    document.write(
        path,
        Document(
            title=title,
            lead=[[("", how)], [("", what)]],
            tiles=[_tile(compared, label) for label in compared.whole],
            sections=[_section(compared, label) for label in compared.whole],
            made=_made(compared),
        ),
    )


def _how(compared: Compared, label: str) -> str:
    """Returns an attack's norm, epsilon and steps, and how many images it is of."""
    said = {"clean": "as they are", "worst": "under every attack, and as they are"}
    how = str(compared.settings[label]) if label in compared.settings else said.get(label, "")
    return f"{how}, n\xa0=\xa0{compared.whole[label].count:,} images"


def _tile(compared: Compared, label: str) -> Tile:
    whole = compared.whole[label]
    shares = f"{100 * whole.first:.1f} and {100 * whole.second:.1f} %"
    return Tile(
        label,
        f"{_points(whole.difference)} points",
        f"{_points(whole.low)} to {_points(whole.high)}",
        f"{_verdict(compared, label)}; {shares}; {_how(compared, label)}",
    )


def _verdict(compared: Compared, label: str) -> str:
    return printable(compared.verdict(label)).replace(" = ", "\xa0=\xa0")


def _points(ratio: float) -> str:
    return f"{100 * ratio:+.1f}" if ratio == ratio else "-"


def _section(compared: Compared, label: str) -> Section:
    how = _how(compared, label)
    number = len(compared.class_names)
    drawn = "each class by name, a filled mark where it differs beyond chance"
    if number > NAMED:
        drawn = f"{number:,} classes, the highest difference first, and a band of their intervals"
    caption = f"{label}: {how}. Second less first, in points, with 95 % intervals: {drawn}."
    picture = inline.drawn(
        f"paired-{list(compared.whole).index(label)}",
        caption,
        lambda path: plot_paired(path, compared, [label]),
    )
    verdict = Words([("strong", f"{_verdict(compared, label)}.")])
    counted = Listed([[("", line)] for line in _counted(compared, label)])
    parts = [verdict, counted, _table(compared, label), *([picture] if picture else [])]
    return Section(f"{label}: {how}", parts, short=label)


def _counted(compared: Compared, label: str) -> list[str]:
    """Returns of how many classes either run is better, and which."""
    lines = []
    for which, name in zip(("first", "second"), map(printable, compared.names), strict=True):
        classes = enumerate(map(printable, compared.class_names))
        better = [one for i, one in classes if compared.better(label, i) == which]
        named = f": {', '.join(better)}" if 0 < len(better) <= 20 else ""
        lines.append(f"{name} is better in {len(better)} of {len(compared.class_names)}{named}.")
    return lines


def _table(compared: Compared, label: str) -> Table:
    rows = [
        [Cell(printable(name), i), *_cells(found, compared.better(label, i), p)]
        for i, (name, found, p) in enumerate(
            zip(compared.class_names, compared.classes[label], compared.p_holm[label], strict=True)
        )
    ]
    whole = compared.whole[label]
    last = _cells(whole, compared.better(label), whole.p_value)
    return Table(
        ["class", "difference", "better", "p", "low", "high", "first", "second", "images"],
        rows,
        [["all", *(cell.text for cell in last)]],
        "Correctly classified in per cent, differences in points.",
    )


def _cells(found: Comparison, better: str, p: float) -> list[Cell]:
    """Returns a row, what it says first: a narrow window shows its beginning."""
    difference, low, high = (Cell(_points(v), v) for v in found[3:6])
    return [
        difference,
        Cell(better),
        _p_value(p),
        low,
        high,
        document.share(found.first),
        document.share(found.second),
        Cell(f"{found.count:,}", found.count),
    ]


def _p_value(value: float) -> Cell:
    return Cell(f"{value:.2g}" if value == value else "-", value)


def _made(compared: Compared) -> Made:
    about, names = compared.about, map(printable, compared.names)
    titles = [
        f"The config of the {w}, {n}" for w, n in zip(("first", "second"), names, strict=True)
    ]
    configs = map(document.flat, about.get("config", ()))
    return Made(
        commands=[("Compared", about["command"])] if "command" in about else [],
        versions=about.get("versions", {}),
        device=about.get("device"),
        configs=list(zip(titles, configs, strict=False)),
    )
