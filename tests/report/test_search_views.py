"""What people read of a search for learning rates."""

import io

import pandas as pd
import pytest
from rich.console import Console

from raybench.report.search_views import UNTUNED, rate_sentences, search_plan_text, search_view
from raybench.tries import COLUMNS, RateOrigins, SearchPlan


def table(*tries: tuple[float, str, float | None], chosen: float | None, strategy: str = "lp-ft") -> pd.DataFrame:
    rows = [
        {
            "dataset": "photos",
            "train_size": 100,
            "model": "resnet8",
            "weights": "random",
            "strategy": strategy,
            "factor": factor,
            "learning_rates": (0.001 * factor, 0.00001 * factor),
            "outcome": outcome,
            "val_loss": loss,
            "chosen": factor == chosen,
            "at_edge": factor == chosen == 10,
        }
        for factor, outcome, loss in tries
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def printed(table: pd.DataFrame) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(search_view(table))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_configuration_has_a_line_with_its_tries_and_its_choice() -> None:
    text = printed(table((0.3, "ended", 0.51234), (1, "diverged", None), (3, "failed", None), chosen=0.3))
    line = next(line for line in text.splitlines() if line.startswith("resnet8"))
    assert line.split() == [
        *("resnet8", "random", "lp-ft", "photos", "100", "0.5123", "diverged", "failed", "0.0003,", "then", "3e-06")
    ]
    assert " E:" not in text


@pytest.mark.parametrize(
    ("tries", "chosen", "said"),
    [
        ([(1, "ended", 0.5), (10, "ended", 0.4)], 10, "0.01, then 0.0001 E"),
        ([(1, "ended", 0.5), (10, "unfinished", None)], None, "to come"),
        ([(1, "diverged", None), (10, "diverged", None)], None, "none"),
    ],
)
def test_an_edge_a_search_to_come_and_one_without_a_result_are_told(
    tries: list[tuple[float, str, float | None]], chosen: float | None, said: str
) -> None:
    text = printed(table(*tries, chosen=chosen))
    assert said in text
    assert ("E: at the edge" in text) is (chosen == 10)


def test_names_are_shown_without_control_characters() -> None:
    assert "\x1b" not in printed(table((1, "ended", 0.5), chosen=1, strategy="bad\x1b[31m"))


def origins(*, fixed: str = "", searched: str = "", at_edge: tuple[str, ...] = ()) -> RateOrigins:
    return RateOrigins(fixed=tuple(fixed.split()), searched=tuple(searched.split()), rates_tried=5, at_edge=at_edge)


def test_fixed_rates_are_called_untuned() -> None:
    assert rate_sentences({"a": origins(fixed="fine-tune")}) == [UNTUNED]
    assert rate_sentences({"a": origins(fixed="fine-tune"), "b": origins(fixed="lp-ft")}) == [UNTUNED]


def test_searched_rates_are_told_with_their_edges() -> None:
    chosen, edges = rate_sentences({"a": origins(searched="lp-ft", at_edge=tuple("abcde"))})
    assert "for each configuration the best of 5 on validation" in chosen
    assert "a, b, c and 2 more" in edges


def test_a_run_with_both_kinds_says_which_are_which() -> None:
    untuned, chosen = rate_sentences({"a": origins(fixed="given", searched="lp-ft fine-tune")})
    assert untuned.startswith("Untuned: learning rates of given were fixed by hand")
    assert "each configuration of lp-ft and fine-tune" in chosen


def test_several_runs_are_told_apart() -> None:
    said = rate_sentences({"a": origins(fixed="x"), "b": origins(searched="x"), "c": None})
    assert [text.split(":")[0] for text in said] == ["a", "b", "c"]
    assert said[2].endswith("is unknown.")
    assert rate_sentences({}) == []


def test_a_plan_names_grid_tries_and_epochs() -> None:
    plan = SearchPlan(
        configurations=4, factors=(0.1, 1, 10), tries=12, to_go=12, most_epochs=90, epochs_of_a_try=(5, 10)
    )
    text = search_plan_text(plan)
    assert text == (
        "12 tries first, at most 90 epochs: each configuration with 0.1, 1 and 10 times the default, for 5 or 10 epochs"
    )
