import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console, RenderableType

from raybench.foreign import load_source
from raybench.ranking import RANK_COLUMNS, rank
from raybench.report.tables import FORMATS, epochs_table, ranking_tables, to_csv, to_json, to_markdown

DATA = Path(__file__).parents[1] / "data"
HOSTILE = "=[bold]x[/bold]|\x1b[31m"


def experiment() -> pd.DataFrame:
    rows = [
        {
            "dataset": "digits",
            "train_size": 100,
            "model": model,
            "weights": weights,
            "strategy": strategy,
            "seed": seed,
            "status": "stopped" if (model, strategy, seed) == ("resnet20", "lp-ft", 2) else "completed",
            "test_accuracy": 0.7 + 0.1 * (weights == "packaged") + seed / 100,
            "val_accuracy": 0.7 + 0.1 * (strategy == "lp-ft"),
            "val_loss": 0.3,
            "train_seconds": 12.3 + seed,
            "standalone_cost_usd": 0.00123,
            "epochs_run": 10 + seed,
        }
        for model in ("resnet8", "resnet20")
        for weights in ("random", "packaged")
        for strategy in ("linear-probe", "fine-tune+augment", "lp-ft")
        for seed in range(3)
    ]
    return rank(pd.DataFrame(rows), test_images=300)


def rendered(what: RenderableType, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_table_fits_the_terminal_without_cutting_a_name_or_number(width: int) -> None:
    lines = rendered(ranking_tables(experiment(), width=width), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for name in ("resnet8", "resnet20", "linear-probe", "fine-tune", "packaged", "random"):
        assert name in text
    ranks = [line for line in lines if line.startswith("resnet")]
    assert len(ranks) == 12


def test_table_has_the_columns_of_the_published_study() -> None:
    header = next(line for line in rendered(ranking_tables(experiment(), width=140), 140) if "model" in line)
    names = [
        "model",
        "strategy",
        "weights",
        "val loss",
        "val acc",
        "test acc",
        "time",
        "epochs",
        "rank",
        "cost $",
        "tie",
    ]
    assert [name for name in names if name in header] == names
    assert [header.index(name) for name in names] == sorted(header.index(name) for name in names)


def test_what_every_row_says_stands_in_the_title() -> None:
    lines = rendered(ranking_tables(experiment(), width=140), 140)
    assert lines[0] == "digits, 100 training images, 3 seeds"
    one_seed = rank(load_source(DATA / "resnet_cost_performance.csv").results)
    assert rendered(ranking_tables(one_seed, width=140), 140)[0].endswith("833 training images, 1 seed")


def test_a_rank_that_is_not_known_is_a_dash_an_empty_cell_or_null() -> None:
    to_come = {"model": "a", "status": "unfinished", "test_accuracy": None}
    ranking = rank(pd.DataFrame([to_come, {"model": "b", "status": "completed", "test_accuracy": 0.5}]))
    lines = rendered(ranking_tables(ranking, width=140), 140)
    (line,) = [line for line in lines if line.startswith("a ")]
    assert line.split()[1:3] == ["-", "-"]
    assert [row["rank"] for row in json.loads(to_json(ranking))] == [1, None]
    assert [row["rank"] for row in csv.DictReader(io.StringIO(to_csv(ranking)))] == ["1", ""]


def test_eighty_columns_hold_all_that_the_published_study_shows() -> None:
    text = "\n".join(rendered(ranking_tables(experiment(), width=80), 80))
    for what in ("loss", "time", "ep.", "#", "cost $", "±"):
        assert what in text


def test_marks_show_pick_frontier_and_stopped_seeds() -> None:
    lines = [line for line in rendered(ranking_tables(experiment(), width=140), 140) if line.startswith("resnet")]
    assert sum("*" in line.split()[-1] for line in lines) == 1
    assert sum(line.endswith("!1") for line in lines) == 2
    assert any(line.endswith("F") for line in lines)


def test_sizes_have_a_table_each() -> None:
    ranking = rank(load_source(DATA / "resnet_cost_performance.csv").results)
    titles = [line for line in rendered(ranking_tables(ranking, width=100), 100) if "training images" in line]
    assert len(titles) == 3


def test_history_without_sizes_or_costs_leaves_their_columns_out() -> None:
    ranking = rank(load_source(DATA / "alexnet_vs_resnet_history.csv").results)
    text = "\n".join(rendered(ranking_tables(ranking, width=100), 100))
    assert "0.9542" in text
    table = text[: text.index("* pick")]
    for absent in ("cost $", "time", "test acc", "nan", "<NA>"):
        assert absent not in table


def hostile() -> pd.DataFrame:
    return rank(pd.DataFrame({"model": [HOSTILE, "b"], "strategy": ["@cmd", "y"], "test_accuracy": [0.9, 0.8]}))


def test_names_are_not_taken_for_markup_or_control_sequences() -> None:
    text = "\n".join(rendered(ranking_tables(hostile(), width=140), 140))
    assert "=[bold]x[/bold]|?[31m" in text
    assert "\x1b" not in text


def test_names_do_not_break_a_markdown_table() -> None:
    lines = to_markdown(hostile()).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "\\[bold]" in rows[2]


def test_csv_holds_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(hostile()))))
    assert rows[0]["model"].startswith("'=")
    assert rows[0]["strategy"] == "'@cmd"


def test_csv_has_the_promised_columns_and_empty_cells_for_what_is_missing() -> None:
    text = to_csv(experiment())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0].split(",") == RANK_COLUMNS
    assert {row["p_best"] for row in rows} == {""}
    assert {row["pick"] for row in rows} == {"True", "False"}
    assert {row["train_size"] for row in rows} == {"100"}
    assert rows[0]["tie_group"] == "1"


def test_json_holds_null_for_what_is_missing() -> None:
    rows = json.loads(to_json(experiment()))
    assert list(rows[0]) == RANK_COLUMNS
    assert rows[0]["p_best"] is None
    assert rows[0]["rank"] == 1
    assert isinstance(rows[0]["pick"], bool)
    assert rows[-1]["tie_group"] is None


def test_formats_are_those_of_the_command_line() -> None:
    assert sorted(FORMATS) == ["csv", "json", "markdown"]


def epochs(**columns: Any) -> pd.DataFrame:  # noqa: ANN401, any column
    history = pd.read_csv(DATA / "alexnet_vs_resnet_history.csv")
    one = history[(history["model"] == "alexnet") & (history["strategy"] == "fine-tune")]
    return one.assign(**columns)


def test_epochs_are_shown_as_the_second_study_shows_them() -> None:
    lines = rendered(epochs_table(epochs(), title="alexnet [x]"), 80)
    text = "\n".join(lines)
    assert "alexnet [x]" in lines[0]
    assert [word in text for word in ("train loss", "train acc", "val loss", "val acc")] == [True] * 4
    assert "best val accuracy 0.9020 (epoch 14)" in lines
    assert "lowest val loss 0.2749 (epoch 7)" in lines
    assert "total time" not in text
    assert "phase" not in text


def test_epochs_with_times_and_phases_show_them() -> None:
    history = epochs(epoch_seconds=60.0, phase=[1] * 5 + [2] * 10)
    lines = rendered(epochs_table(history.sample(frac=1, random_state=0)), 80)
    assert "total time 15 min" in lines
    assert any("phase" in line for line in lines)
    assert [line.split()[:2] for line in lines if line.strip()[:1].isdigit()][:2] == [["1", "1"], ["1", "2"]]


def test_epochs_that_diverged_have_no_best() -> None:
    lines = rendered(epochs_table(epochs(val_loss=float("nan"), val_accuracy=float("nan"))), 80)
    assert not any("best" in line or "lowest" in line for line in lines)


def test_probability_of_being_best_has_a_column_and_a_legend_where_it_is_known() -> None:
    ranking = experiment()
    unknown = "\n".join(rendered(ranking_tables(ranking, width=140), 140))
    assert "p best" not in unknown
    ranking["p_best"] = [0.836, 0.1605, 0.001, *[math.nan] * (len(ranking) - 3)]
    text = "\n".join(rendered(ranking_tables(ranking, width=160), 160))
    for what in ("p best", "0.84", "0.16", "<0.01", "p best: probability of the highest accuracy"):
        assert what in text
    assert "p best" in to_markdown(ranking)
