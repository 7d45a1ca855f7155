"""Figures: safe names, round ticks, few points."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.report.figures import MOST_LABEL, label, scale, thinned, ticks
from raybench.report.theme import DASHES, PALETTES, SERIES


@given(st.text())
def test_no_name_is_markup_or_a_formula(name: str) -> None:
    text = label(name)
    assert "<" not in text
    assert "$" not in text
    assert all(letter.isprintable() for letter in text)


def test_long_names_are_shortened_before_they_are_escaped() -> None:
    assert label("<" * 300).count("&lt;") == MOST_LABEL - 1


@given(st.lists(st.floats(min_value=1e-7, max_value=1e7), min_size=1, max_size=20), st.booleans())
def test_ticks_are_few_rising_and_above_nothing(values: list[float], seconds: bool) -> None:
    kind = scale(values)
    found = ticks(values, kind, seconds=seconds)
    assert len(found) < 12
    assert found == sorted(set(found))
    assert all(value >= 0 for value in found)


def test_ticks_of_time_are_those_of_clocks() -> None:
    assert ticks([30.0, 200.0], "linear", seconds=True) == [0, 60, 120, 180, 240]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1, 5], "linear"), ([1, 500], "log"), ([0, 500], "linear"), ([], "linear"), ([math.nan], "linear")],
)
def test_wide_ranges_are_logarithmic(values: list[float], kind: str) -> None:
    assert scale(values) == kind


@given(st.integers(min_value=0, max_value=5000), st.integers(min_value=2, max_value=100))
def test_thinning_keeps_both_ends_and_the_order(count: int, most: int) -> None:
    kept = thinned(range(count), most)
    assert len(kept) <= most
    assert kept == sorted(set(kept))
    assert {kept[0], kept[-1]} == {0, count - 1} if count else kept == []


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", PALETTES)
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_colours_stand_out_from_what_lies_behind_them(scheme: str, ground: str) -> None:
    palette = PALETTES[scheme]
    for name in ("ink", "muted", "accent", "good", "care", *SERIES):
        low, high = sorted(luminance(palette[each]) for each in (name, ground))
        assert (high + 0.05) / (low + 0.05) >= (3 if name in SERIES else 4.5), (scheme, name)


def test_schemes_have_the_same_colours_and_predictions_a_dash_of_their_own() -> None:
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    assert "dot" not in DASHES
