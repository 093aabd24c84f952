"""A small table as text and as HTML, whatever stands in it."""

from __future__ import annotations

import numpy as np
import pytest

from rbjax import metrics
from rbjax.sheet import Sheet, spoken

SHEET = Sheet(
    "attacked: linf, epsilon 8/255, 20 steps\n<b>second line</b>",
    {
        "class": ["cat", "<script>alert(1)</script>"],
        "count": [1200, np.int64(3)],
        "right": [0.5, np.nan],
        "loss": [1.25, None],
        "ok": [True, np.bool_(False)],
    },
    {"class": ["all"], "right": [1 / 3]},
    plain=("loss",),
)


def test_as_text():
    assert repr(SHEET).splitlines() == [
        "attacked: linf, epsilon 8/255, 20 steps",
        "<b>second line</b>",
        "class                      count  right  loss   ok",
        "-------------------------  -----  -----  ----  ---",
        "cat                        1,200   50.0  1.25  yes",
        "<script>alert(1)</script>      3      -     -   no",
        "-------------------------  -----  -----  ----  ---",
        "all                                33.3",
    ]


def test_as_html_names_are_text():
    html = SHEET._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</td><td>3</td>" in html
    assert "20 steps<br>&lt;b&gt;second" in html
    assert html.count("<tr>") == 4
    assert "<tfoot><tr><td>all</td><td></td><td>33.3</td>" in html


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (8 / 255, "8/255"),
        (0.1, "0.1"),
        (0.2, "0.2"),
        (np.float32(4 / 255), "4/255"),
        (1.0, "1"),
        (128 / 255, "128/255"),
        (0.031, "0.031"),
        (1e-4, "0.0001"),
    ],
)
def test_radii_as_people_write_them(epsilon, text):
    assert spoken(float(epsilon)) == text


def test_metrics_of_classes_print_as_a_table():
    found = metrics.classwise(np.array([0, 0, 1]), np.array([0, 1, 1]), num_classes=2)
    lines = repr(found).splitlines()
    assert lines[0] == "classwise: 3 images of 2 classes; ratios in per cent"
    assert lines[3].split() == ["0", "2", "1", "1", "50.0", "100.0", "66.7"]
