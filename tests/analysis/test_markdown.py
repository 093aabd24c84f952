"""Our reports' Markdown as parts of a page."""

from __future__ import annotations

import pytest

from rbjax.analysis import markdown
from rbjax.analysis.document import Listed, Table, Words

TEXT = """Above `code` all.

#### Low

words
over lines
- one
- **two `2`**
### High
| | b \\| c |
|---|---|
| x | 5 |
| y |
"""


def test_parts_stand_in_their_order_below_their_headings():
    lead, sections = markdown.sections(TEXT)
    assert lead == [[("", "Above "), ("code", "code"), ("", " all.")]]
    assert [(one.heading, one.level) for one in sections] == [("Low", 3), ("High", 2)]
    words, listed = sections[0].parts
    assert words == Words([("", "words over lines")])
    assert listed == Listed([[("", "one")], [("strong", "two 2")]])
    (table,) = sections[1].parts
    assert isinstance(table, Table)
    assert table.headings == ["row", "b | c"]
    assert [[cell.text for cell in row] for row in table.rows] == [["x", "5"], ["y", ""]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("55.4 (54.1 to 56.7)", 55.4),
        ("1,412 of 1,412", 1412.0),
        ("98.61 % ± 0.09 %", 98.61),
        ("-3e-05", -3e-05),
        ("< 0.001", 0.001),
        ("7, 9, 8", None),
        ("93, 67", None),
        ("5-fold", None),
    ],
)
def test_what_a_column_is_sorted_by(text: str, value: float | None):
    cells = [row[0] for row in markdown.table(["a"], [[text], [""], ["-"]]).rows]
    assert [cell.value for cell in cells] == [value, None, None]
    assert ("words" in cells[0].look) == (value is None)


def test_verdicts_are_marked_and_counted():
    text = "### a\n- holds: x: 1\n- holding on: no\n- missing.\n\n| a | b |\n|-|-|\n| yes | open |"
    _, sections = markdown.sections(text)
    listed, table = sections[0].parts
    assert isinstance(listed, Listed)
    assert isinstance(table, Table)
    assert listed.lines[0] == [("passed", "holds"), ("", ": x: 1")]
    assert listed.lines[1] == [("", "holding on: no")]
    assert table.rows[0][1].look == "words soft"
    assert markdown.verdicts(sections) == {"holds": 1, "missing": 1, "open": 1}
