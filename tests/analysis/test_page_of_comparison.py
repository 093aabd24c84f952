"""The page of two runs compared: what is in it, escaped, and made again of the files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rbjax import analysis, atomic, compared, rpr
from rbjax.__main__ import main
from rbjax.analysis import page_of_comparison
from rbjax.attacks.outcome import Setting
from tests.analysis.test_page import Parsed

NAMES = ("<script>alert(1)</script>", "$dog$", "third", "nothing")
LABELS = np.repeat([0, 1, 2], [20, 20, 10])


def comparison(names: tuple[str, ...] = NAMES, labels: np.ndarray = LABELS) -> compared.Compared:
    """Of the first class the second run has all right that the first has wrong."""
    first = labels > 0
    flags = {"clean": (first, first), "pgd": (first, np.ones_like(first))}
    each = {k: rpr.compare_classes(*v, labels, num_classes=len(names)) for k, v in flags.items()}
    return compared.Compared(
        names=("runs/<b>", "runs/b"),
        class_names=names,
        settings={"pgd": Setting("linf", 8 / 255, "20 steps")},
        whole={k: rpr.compare(*v) for k, v in flags.items()},
        classes=each,
        p_holm={k: [one.p_value * 3 for one in of] for k, of in each.items()},
        about={
            "dataset": "digits",
            "split": "test",
            "step": [5, 7],
            "config": [{"method": {"name": "standard"}}, {"method": {"name": "pgd"}}],
            "command": "rbjax compare a b",
            "versions": {"rbjax": "0.1.0"},
            "device": "cpu",
        },
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    page_of_comparison.write(path, comparison())
    return path.read_text("utf-8")


def test_the_verdict_stands_above_and_each_attack_says_what_it_is(text: str):
    parsed = Parsed(text)
    how = "linf, epsilon 8/255, 20 steps, n\xa0=\xa050 images"
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", text)
    assert headings == [
        "clean: as they are, n\xa0=\xa050 images",
        f"pgd: {how}",
        "How it was made",
    ]
    captions = re.findall(r"<figcaption>([^<]*)</figcaption>", text)
    assert len(parsed.all("svg")) == len(captions) == 2
    assert how in captions[1]
    tiles = text[text.index('<ul class="tiles">') : text.index("<h2")]
    assert "no difference beyond chance (p\xa0=\xa01)" in tiles
    assert "runs/b is better (p\xa0=\xa01.9e-06)" in tiles
    assert "+40.0 points" in tiles
    low, high = (100 * x for x in comparison().whole["pgd"][4:6])
    assert f"{low:+.1f} to {high:+.1f}" in tiles
    assert "runs/b is better in 1 of 4: <script>" in parsed.text
    for said in (
        "first: runs/<b>, weights after step 5; second: runs/b, weights after step 7",
        "Compared by rbjax compare a b",
        "rbjax 0.1.0, on cpu.",
        "The config of the second, runs/b, 1 fields",
        "method.name",
    ):
        assert said in parsed.text


def test_names_are_escaped_ids_are_unique_and_nothing_is_from_elsewhere(text: str):
    parsed = Parsed(text)
    assert len(parsed.all("script")) == 1
    assert not parsed.all("b")
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert {address[1:] for address in addresses if address[0] == "#"} <= set(ids)


def test_the_table_has_every_class_with_its_interval_and_who_is_better(text: str):
    table = text[text.index(">pgd: linf", text.index("<h2")) :]
    rows = re.findall(r"<tr><th scope=\"row\".*</tr>", table[table.index("<tbody>") :])
    cells = [re.findall(r">([^<]*)</t[dh]>", row) for row in rows[:4]]
    assert cells[0][1:3] == ["+100.0", "second"]
    assert cells[0][6:] == ["0.0", "100.0", "20"]
    assert cells[1][1:3] == ["+0.0", ""]
    assert cells[1][7] == "100.0"
    assert cells[3][1:] == ["-", "", "-", "-", "-", "-", "-", "0"]
    headings = re.findall(r"<button[^>]*>([^<]*)<", table[: table.index("<tbody>")])
    assert headings[:4] == ["class", "difference", "better", "p"]  # all that a telephone shows
    assert 'data-value="1.0">+100.0' in rows[0]


@pytest.mark.parametrize("count", [30, 151])
def test_many_classes_are_drawn_too(count: int, tmp_path: Path):
    names, labels = tuple(f"class {i}" for i in range(count)), np.repeat(np.arange(count), 2)
    page_of_comparison.write(tmp_path / "a.html", comparison(names, labels))
    text = (tmp_path / "a.html").read_text("utf-8")
    assert text.count("<svg") == 2
    assert ("a band of their intervals" in text) == (count > 150)
    assert f"class {count - 1}" in text
    assert f"{count - 30} classes of smaller" in repr(comparison(names, labels)) or count == 30


def test_a_class_without_images_is_not_among_those_that_differ_most():
    names, labels = tuple(map(str, range(32))), np.repeat(np.arange(1, 32), 4)
    labels[:4] = 0
    shown = comparison(names, labels).sheet("pgd").columns["class"]
    assert "0" in shown
    assert "1" not in shown


def test_rbjax_report_writes_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = comparison()
    file = tmp_path / "comparison.json"
    atomic.write_json(file, found.as_json())
    again = compared.read(file)
    assert repr(again) == repr(found)
    assert again.about == found.about
    for place in (file, tmp_path / "comparison", tmp_path):
        (tmp_path / "comparison.html").unlink(missing_ok=True)
        assert "runs/b is better" in analysis.report(place)
        assert "runs/b is better" in (tmp_path / "comparison.html").read_text("utf-8")
    file.write_text("{}")
    assert main(["report", str(file)]) == 2
    assert "no comparison that this version of rbjax wrote" in capsys.readouterr().err
