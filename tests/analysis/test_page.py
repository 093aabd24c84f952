"""report.html: what is in it, escaped, and that it works in a browser where there is one."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import markupsafe
import numpy as np
import pytest

from rbjax import metrics
from rbjax.analysis import inline, page, run_pictures
from rbjax.analysis.content import Content

NAMES = ["<script>alert(1)</script>", 'a "b" & \x1b[31mc', "third"]
COLUMNS = {
    "clean": np.array([0.5, 1.0, np.nan]),
    "pgd": np.array([0.25, 0.0, np.nan]),
    "pgd2": np.array([0.5, 0.25, np.nan]),
}
CORRUPTED = {
    "profile": "cifar",
    "order": ["fog"],
    "severities": {"fog": [1, 2]},
    "accuracy": {"fog": [0.5, 0.25]},
    "mean_error": 0.6,
}
RNG = np.random.default_rng(0)


class Parsed(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def content(names: list[str], columns: dict[str, np.ndarray], **others: Any) -> Content:
    counts = [0 if np.isnan(share) else 4 for share in columns["clean"]]
    results = {}
    for label, column in columns.items():
        hits = np.nan_to_num(4 * column).astype(int)
        matrix = np.diag(hits)
        matrix[:, 0] += np.array(counts) - hits
        results[label] = {
            "summary": metrics.summarize(matrix),
            "classwise": {
                k: v.tolist() for k, v in metrics.from_confusion(matrix)._asdict().items()
            },
            "confusion": matrix,
            "attack": {},
        }
    spec = {"name": "pgd", "epsilon": 0.1, "norm": "linf", "num_steps": 20}
    results["pgd"]["attack"] = spec
    if "pgd2" in results:
        results["pgd2"]["attack"] = {**spec, "epsilon": 0.05}
    evaluation = {
        "dataset": "made up",
        "split": "test",
        "class_names": names,
        "class_counts": counts,
        "train_class_counts": list(range(10, 10 + 10 * len(names), 10)),
        "order": list(columns),
        "results": results,
        "config": {"seed": 3, "loss": {"name": names[0]}},
        "worst": {**results["pgd"], "attack": {}},
        "corruptions": CORRUPTED
        | {
            "class_accuracy": {"fog": [[0.5] * len(names)] * 2},
            "class_mean_error": [0.5] * len(names),
        },
        "versions": {"rbjax": "0.1.0"},
        "diagnostics": {
            "num_examples": 4,
            "norm": "linf",
            "epsilon": 0.1,
            "findings": [
                {"name": "logits", "passed": False, "seen": "rows sum to 1", "advice": "take logs"},
                {"name": "more_steps", "passed": True, "seen": "none", "advice": ""},
            ],
        },
    }
    return Content("A title", evaluation, columns=columns, accuracies=columns, **others)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    delta = 0.1 * np.ones((6, 6, 1), np.float32)
    images, labels = RNG.random((2, 6, 6, 1)), np.arange(2)
    parts: dict[str, Any] = {"perturbations": {"uap": delta}, "images": images, "labels": labels}
    curves = {"survival": [1, 0.5, 0.5], "class_survival": [[1, 0.5, 0.5]] * 2 + [[np.nan] * 3]}
    curves |= {f"{name}_band": [curve, curve] for name, curve in curves.items()}
    robust = {"robust_ratio": 0.5, "robust_ratio_interval": [0.2, 0.8], **curves}
    score = {"max_steps": 2, "num_examples": 8, "split": "test", "all": robust}
    points = {"images": images, "labels": labels, "example_ids": np.array([7, 9])}
    points["first_failure"] = np.array([1, 3])
    records = [{"step": 1, "epoch": 1, "train/loss": 0.5}]
    records[0]["validation/attack"] = "pgd, linf, epsilon 0.1, 4 steps of 0.06, 100 images"
    parts |= {"scores": score, "datapoints": points, "records": records}
    page.write(path, content(NAMES, COLUMNS, **parts))
    return path


def test_everything_is_in_it_and_nothing_from_elsewhere(written: Path):
    text = written.read_text("utf-8")
    parsed = Parsed(text)
    headings = re.findall(r'<h2 id="(\w+)"', text)
    expected = ["classes", "epsilons", "confusions", "survival", "perturbations", "corruptions"]
    assert headings == [*expected, "training", "diagnostics", "made"]
    assert len(parsed.all("svg")) == 11
    captions = re.findall(r"<figcaption>(.*)</figcaption>", text)
    of_attacks = [one for one in captions if "pgd: linf, epsilon 0.1, 20 steps" in one]
    assert len(of_attacks) == 5  # accuracies, heat map, differences, sizes, confusions
    of_numbers = [one for one in captions if not one.startswith("What training")]
    assert len(of_numbers) == 10
    assert sum("&#34;corrupted&#34; is a mean" in one for one in captions) == 2
    assert all("n\xa0=\xa0" in one for one in of_numbers)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(ids)
    for said in (
        "pgd, linf, epsilon 0.1, 20 steps",
        "pgd: weakest a",
        "FAILED",
        "rows sum to 1",
        "withstands all 2 draws",
        "fails at draw 1",
        "seed 3",
        "1 corruption \u00d7 2 severities \u00d7 8 images, constants of CIFAR-10-C",
        "validation attack: pgd, linf, epsilon 0.1, 4 steps of 0.06, 100 images",
        "loss.name",
        "A title",
    ):
        assert said in parsed.text, said


@pytest.mark.parametrize("count", [20, 21, 150, 151])
def test_captions_say_what_is_drawn_of_so_many_classes(count: int, monkeypatch: pytest.MonkeyPatch):
    def undrawn(name: str, caption: str, draw: Any) -> run_pictures.Picture:
        return run_pictures.Picture(caption, markupsafe.Markup())

    monkeypatch.setattr(inline, "drawn", undrawn)
    names = [f"class {i}" for i in range(count + 1)]
    columns = {label: np.append(np.full(count, 0.5), np.nan) for label in ("clean", "pgd")}
    robust = {"class_survival": [[1, 0.5]] * count + [[np.nan] * 2]}
    scores = {"max_steps": 1, "num_examples": 8, "split": "test", "all": robust}
    of = content(names, columns, scores=scores)
    assert of.evaluation
    of.evaluation["corruptions"]["class_accuracy"] = {"fog": [columns["clean"]] * 2}
    found = run_pictures.pictures_of(of, names)
    says_intervals = "Accuracy of each class, with 95 % intervals." in found["accuracy"].caption
    assert says_intervals == (count <= 150)
    assert (f"{count} classes are distributed" in found["accuracy"].caption) == (count > 150)
    assert ("grey band" in found["severities"].caption) == (count > 20)
    assert ("the three lowest classes" in found["survival"].caption) == (count > 18)
    assert ("as a band" in found["survival"].caption) == (count > 150)


@pytest.mark.parametrize(
    ("evaluated", "scored", "said"),
    [
        ("a b", "a b", ["Model evaluated and scored by a b"]),
        ("a b", "c", ["Model evaluated by a b", "Model scored by c"]),
        (None, "c", ["Model scored by c"]),
        (None, None, ["Page written by"]),
    ],
)
def test_commands_are_those_that_made_the_numbers(
    evaluated: str | None, scored: str | None, said: list[str], tmp_path: Path
):
    curves = {"survival": [1, 1], "class_survival": [[1, 1]] * 3}
    curves |= {f"{name}_band": [curve, curve] for name, curve in curves.items()}
    robust = {"robust_ratio": 0.5, "robust_ratio_interval": [0.2, 0.8], **curves}
    scores = {"max_steps": 1, "num_examples": 8, "split": "test", "all": robust}
    of = content(NAMES, COLUMNS, scores={**scores, "command": scored})
    assert of.evaluation
    of = of._replace(evaluation={**of.evaluation, "command": evaluated})
    page.write(tmp_path / "a.html", of)
    text = Parsed((tmp_path / "a.html").read_text("utf-8")).text
    assert all(one in text for one in said)
    assert len(re.findall(r"(?:Model|Page) [a-z ]*by", text)) == len(said)


def test_failed_checks_stand_above_the_numbers(tmp_path: Path):
    of = content(NAMES, COLUMNS)
    page.write(tmp_path / "report.html", of)
    text = (tmp_path / "report.html").read_text("utf-8")
    before, numbers = text.split('<ul class="tiles">')
    said = "1 of 2 checks for a false sense of robustness failed (logits): the accuracies under"
    assert said in Parsed(before).text
    assert '<a href="#diagnostics">' in before[before.index('class="warning"') :]
    assert "rows sum to 1: take logs" in Parsed(numbers).text

    assert of.evaluation
    of.evaluation["diagnostics"]["findings"][0]["passed"] = True
    page.write(tmp_path / "report.html", of)
    assert 'class="warning"' not in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("size", ["font: 5px 'DejaVu Sans'", "font-size: 5px"])
def test_letters_are_legible_in_a_narrow_window(size: str):
    letters = f'<text style="font: 9px a"/><text style="{size}"/>'
    svg = f'<svg width="600pt" height="300pt" viewBox="0 0 600 300">{letters}</svg>'
    assert "min-width:1200px" in inline._inline(svg, "a")


def test_classes_alike_and_images_that_withstand_all_are_not_ranked(tmp_path: Path):
    columns = {"clean": np.ones(3), "pgd": np.array([0.5, 0.25, 0.5])}
    survival = {"class_survival": [[1, 1]] * 3, "survival": [1, 1]}
    survival |= {f"{name}_band": [curve, curve] for name, curve in survival.items()}
    robust = {"robust_ratio": 0.5, "robust_ratio_interval": [0.2, 0.8], **survival}
    scores = {"max_steps": 1, "num_examples": 8, "split": "test", "all": robust}
    points: dict[str, Any] = {"images": RNG.random((4, 6, 6, 1)), "labels": np.arange(4) % 3}
    points |= {"example_ids": np.arange(4), "first_failure": np.array([1, 2, 2, 2])}
    for fails, said in ((1, "The least robust of"), (2, "Every correctly classified datapoint")):
        points["first_failure"][0] = fails
        page.write(tmp_path / "a.html", content(NAMES, columns, scores=scores, datapoints=points))
        parsed = Parsed((tmp_path / "a.html").read_text("utf-8"))
        assert "clean: all classes alike, 100.0 %." in parsed.text
        assert "pgd: weakest a" in parsed.text
        assert said in parsed.text
        assert len(parsed.all("img")) == (3 if fails == 1 else 2)


def test_paper_has_headings_without_buttons_one_mean_and_the_config(written: Path):
    text = written.read_text("utf-8")
    head = text[text.index("<thead>") : text.index("</thead>")]
    buttons = re.findall(r"<button[^>]*>([^<]*)</button>", head)
    assert "pgd2" in buttons
    assert re.findall(r'<span class="printed">([^<]*)</span>', head) == buttons
    paper = text[text.index("@media print") : text.index("</style>")]
    for rule in (
        "thead button, .screen { display: none; } .printed { display: inline; }",
        "tfoot { display: table-row-group; }",
        "h2, .points + p, caption { break-after: avoid; }",
        "details::details-content { content-visibility: visible; }",
    ):
        assert rule in paper


def test_names_are_escaped(written: Path):
    parsed = Parsed(written.read_text("utf-8"))
    assert len(parsed.all("script")) == 1
    rows = [attributes for attributes in parsed.all("th") if attributes.get("scope") == "row"]
    assert [row.get("data-value") for row in rows[:3]] == ["0", "1", "2"]
    assert NAMES[0] in parsed.text
    assert "\x1b" not in parsed.text
    assert all("b" not in attributes for _, attributes in parsed.elements)


def test_shares_of_a_class_without_images_are_missing(written: Path):
    text = written.read_text("utf-8")
    last = text[text.index('data-value="2">third') :]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", last)[:5] == ["-", "-", "-", "30", "0"]
    assert Parsed(text).all("td")[0] == {"data-value": "0.5"}


def test_rows_below_are_those_of_the_console(tmp_path: Path):
    columns = {"clean": COLUMNS["clean"], "f1": COLUMNS["clean"], "pgd": COLUMNS["pgd"]}
    of = content(NAMES, COLUMNS)._replace(columns=columns, totals={"clean": 0.75, "pgd": 0.125})
    page.write(tmp_path / "a.html", of)
    text = (tmp_path / "a.html").read_text("utf-8")
    foot = text[text.index("<tfoot>") : text.index("</tfoot>")]
    rows = [re.findall(r">([^<]*)</t[dh]>", row) for row in foot.split("</tr>")[:-1]]
    assert rows == [
        ["all", "75.0", "12.5", "", "60", "8"],
        ["mean", "75.0", "12.5", "75.0", "", ""],
        ["worst class", "50.0", "0.0", "50.0", "", ""],
        ["spread", "50.0", "25.0", "50.0", "", ""],
    ]
    head = text[text.index("<thead>") : text.index("</thead>")]
    assert re.findall(r"<button[^>]*>([^<]*)<", head) == [
        *("class", "clean", "pgd", "f1", "trained on", "images")
    ]


def test_classes_with_the_same_accuracy_are_all_said(tmp_path: Path):
    columns = {"clean": np.array([1, 1, 0.5, 1, 0.0, 0.0]), "pgd": np.array([1, 0.5, 1, 0, 0, 0])}
    page.write(tmp_path / "a.html", content(list("abcdef"), columns))
    text = Parsed((tmp_path / "a.html").read_text("utf-8")).text
    assert "clean: weakest e and f with 0.0 %, strongest 3 classes with 100.0 %" in text
    assert "pgd: weakest 3 classes with 0.0 %, strongest a and c with 100.0 %" in text


@pytest.mark.full_size
def test_ten_thousand_datapoints_of_a_hundred_classes_are_small(tmp_path: Path):
    names = [f"class {i}" for i in range(100)]
    columns = {label: RNG.integers(0, 5, 100) / 4 for label in ("clean", "fgsm", "pgd", "square")}
    page.write(tmp_path / "report.html", content(names, columns))
    assert (tmp_path / "report.html").stat().st_size < 5e6


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_table_sorts_in_a_browser(written: Path, tmp_path: Path):
    script = '<script>document.querySelectorAll("thead button")[2].click()</script></body>'
    copy = tmp_path / "clicked.html"
    copy.write_text(written.read_text("utf-8").replace("</body>", script), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(CHROMIUM), *options, "--dump-dom", copy.as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in seen.stderr
    parsed = Parsed(seen.stdout)
    rows = [attributes for attributes in parsed.all("th") if attributes.get("scope") == "row"]
    assert [row.get("data-value") for row in rows[:3]] == ["0", "1", "2"]  # pgd: 25, 0, none
    assert [at.get("aria-sort") for at in parsed.all("th")[:3]][-1] == "descending"
