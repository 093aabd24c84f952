import pytest

from rbjax.config import parse_fraction


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("0.03", 0.03), ("1e-3", 1e-3), (" 4 / 255 ", 4 / 255), (2, 2.0)],
)
def test_fractions(text, value):
    assert parse_fraction(text) == value


@pytest.mark.parametrize("text", ["", "eight", "8/0", "1/2/3", "nan", "inf", "8/", "1/inf"])
def test_what_is_no_number_says_how_to_write_one(text):
    with pytest.raises(ValueError, match=r"8/255"):
        parse_fraction(text)
