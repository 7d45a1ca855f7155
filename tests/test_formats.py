import math

import pandas as pd
import pytest

from raybench.formats import (
    accuracy_text,
    clock_text,
    count_text,
    duration_text,
    is_missing,
    joined,
    money_text,
    number_text,
    percent_text,
    safe_cell,
    safe_text,
    shortened,
    usd_text,
)


@pytest.mark.parametrize("value", [None, math.nan, pd.NA, pd.NaT])
def test_missing_is_missing_however_it_is_written(value: object) -> None:
    assert is_missing(value)
    for text in (accuracy_text, number_text, count_text, duration_text, clock_text, usd_text, money_text, percent_text):
        assert text(value) == "-"
    assert safe_text(value) == ""


@pytest.mark.parametrize("value", [0, 0.0, "", False, "nan"])
def test_zero_and_empty_are_not_missing(value: object) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("seconds", "words", "clock"),
    [
        (0, "0.0 s", "0.0 s"),
        (9.94, "9.9 s", "9.9 s"),
        (9.99, "10 s", "0:10"),
        (42.4, "42 s", "0:42"),
        (59.7, "1 min", "1:00"),
        (140, "2 min 20 s", "2:20"),
        (3599.7, "1 h", "1:00:00"),
        (3900, "1 h 05 min", "1:05:00"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str, clock: str) -> None:
    assert duration_text(seconds) == words
    assert clock_text(seconds) == clock


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (3.2, "$3.20"),
        (0.5, "$0.50"),
        (0.0016, "$0.0016"),
        (0.00031, "$0.00031"),
        (4.2e-5, "$0.00004"),
        (2e-6, "$0.000002"),
        (1e-9, "under $0.0000001"),
        (-0.0016, "-$0.0016"),
    ],
)
def test_costs_keep_what_matters_of_them_and_are_never_a_power_of_ten(usd: float, text: str) -> None:
    assert usd_text(usd) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(3.2, "$3.20"), (0.01, "$0.010"), (0.0016, "less than a cent ($0.0016)"), (0, "$0.00")]
)
def test_costs_below_a_cent_are_said_to_be(usd: float, text: str) -> None:
    assert money_text(usd) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.9978, "99.8 %"), (1.0, "100.0 %"), (0, "0.0 %")])
def test_fractions_read_as_percent(fraction: float, text: str) -> None:
    assert percent_text(fraction) == text


@pytest.mark.parametrize(("most", "text"), [(10, "abcdefghij"), (9, "abcd…ghij"), (2, "a…"), (1, "…")])
def test_long_names_lose_their_middle(most: int, text: str) -> None:
    assert shortened("abcdefghij", most) == text


def test_accuracy_carries_half_its_interval() -> None:
    assert accuracy_text(0.8012, 0.734, 0.8548) == "0.8012 ±0.060"
    assert accuracy_text(0.8012, 0.734, 0.8548, digits=3) == "0.801 ±0.06"
    assert accuracy_text(0.8012, 0.7, None) == "0.8012"


def test_means_of_counts_keep_a_decimal() -> None:
    assert [count_text(12.0), count_text(12.33), count_text(12.33, 0)] == ["12", "12.3", "12"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "  =1", "\t=1", "\r=1", "\n@x"])
def test_cell_is_no_formula(text: str) -> None:
    assert str(safe_cell(text))[0] not in "=+-@\t\r\n "


def test_harmless_cells_stay_as_they_are() -> None:
    assert [safe_cell(value) for value in ("resnet18", "lp-ft", -1.5, None)] == ["resnet18", "lp-ft", -1.5, None]


def test_control_characters_are_made_visible() -> None:
    assert safe_text("a\x1b[31mb\nc") == "a?[31mb?c"


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert [joined(["a", "b", "c"], most=most) for most in (1, 2, 3)] == [
        "a and 2 more",
        "a, b and 1 more",
        "a, b and c",
    ]
