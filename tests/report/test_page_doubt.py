"""How sure a pick is called, and what rivals it."""

import math

import pandas as pd
import pytest

from raybench.report.page_doubt import rival_points, verdict
from raybench.report.page_parts import Mood

NAN = math.nan


def group(ties: list[float], chances: list[float], pick: int = 0) -> pd.DataFrame:
    """Return configurations a, b, c, ..., best first."""
    return pd.DataFrame(
        {
            "model": list("abcdefgh"[: len(ties)]),
            "weights": "random",
            "strategy": "fine-tune",
            "test_accuracy": [0.9 - 0.01 * place for place in range(len(ties))],
            "test_accuracy_low": NAN,
            "stopped": 0,
            "tie_group": ties,
            "p_best": chances,
            "pick": [place == pick for place in range(len(ties))],
            "standalone_cost_usd": 0.5,
            "train_seconds": 60.0,
        }
    )


@pytest.mark.parametrize(
    ("ties", "chances", "pick", "says", "mood"),
    [
        ([1, 2, 2], [0.995, 0.004, 0.001], 0, "Clearly the most accurate of those compared. ", Mood.GOOD),
        ([1, 1, 2], [0.6, 0.35, 0.05], 0, "Not beyond doubt: 1 of the 2 others may be as accurate. ", Mood.CARE),
        ([1, 1, 1], [0.6, 0.2, 0.2], 0, "Not beyond doubt: all 2 others may be as accurate. ", Mood.CARE),
        ([1, 1], [0.6, 0.4], 0, "Not beyond doubt: the other may be as accurate. ", Mood.CARE),
        ([1, 2], [0.99, 0.01], 1, "Not the most accurate: the other is more so, ", Mood.CARE),
        ([1, 1, NAN], [NAN, NAN, NAN], 0, "Not beyond doubt: the other may be as accurate.", Mood.CARE),
    ],
)
def test_verdict_says_how_sure_a_pick_is(
    ties: list[float], chances: list[float], pick: int, says: str, mood: Mood
) -> None:
    rows = group(ties, chances, pick)
    said = verdict(rows.iloc[pick], rows, test_images=300)
    assert said is not None
    assert said.text.startswith(says)
    assert said.mood is mood


@pytest.mark.parametrize(("ties", "chances"), [([NAN, NAN], [NAN, NAN]), ([1.0], [1.0]), ([1.0, NAN], [NAN, NAN])])
def test_no_verdict_where_nothing_is_known_or_compared(ties: list[float], chances: list[float]) -> None:
    rows = group(ties, chances)
    assert verdict(rows.iloc[0], rows, test_images=300) is None


def test_a_rival_is_named_where_it_is_not_improbably_the_best() -> None:
    rows = group([1, 1, 1], [0.6, 0.35, 0.05])
    said = verdict(rows.iloc[0], rows, test_images=300)
    assert said is not None
    assert said.text.endswith("with probability 0.60, b fine-tune with 0.35.")
    sure = group([1, 2, 2], [0.98, 0.01, 0.01])
    alone = verdict(sure.iloc[0], sure, test_images=300)
    assert alone is not None
    assert alone.text.endswith("with probability 0.98.")


def test_rivals_are_listed_with_accuracy_and_cost() -> None:
    rows = group([1, 1, 2], [0.6, 0.35, 0.05])
    (point,) = rival_points(rows.iloc[0], rows)
    assert point.label == "No clear difference"
    assert point.text == "b fine-tune (89.0 %, $0.50)."


def test_doubt_that_is_not_counted_is_said() -> None:
    rows = group([1, 2, 2], [0.995, 0.004, 0.001])
    said = verdict(rows.iloc[0], rows, test_images=None)
    assert said is not None
    assert "other test images" in said.text
    assert said.mood is Mood.CARE


def test_what_is_not_compared_is_not_called_apart() -> None:
    rows = group([1.0, NAN, 2.0], [NAN] * 3)
    (point,) = rival_points(rows.iloc[0], rows)
    assert point.text == "It stands apart from all others that can be compared; 1 cannot."
    assert point.mood is Mood.CARE
    rows = group([NAN, 1.0], [NAN] * 2).assign(test_accuracy_low=0.8)
    (point,) = rival_points(rows.iloc[0], rows)
    assert point.text.startswith("Its seeds scored exactly alike, so its interval is borrowed")
