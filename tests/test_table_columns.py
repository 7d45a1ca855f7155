"""What the columns of other people's tables are taken for."""

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import raybench
from raybench.errors import InputError
from raybench.foreign import Kind, Source, load_source
from raybench.ranking import RANK_COLUMNS
from raybench.recognize import parse_columns
from raybench.results import RESULTS_SCHEMA
from raybench.table_columns import read_columns

NETS, RECIPES, SIZES, REPS = ("r18", "r50"), ("full", "probe"), (500, 2000), (1, 2, 3)
OUTLAYS = [round(7.31 + 0.37 * row, 2) for row in range(24)]


def study(**columns: Any) -> pd.DataFrame:  # noqa: ANN401, any cells
    """24 rows: two networks, two recipes, two sizes and three repeats; a column that is None is left out."""
    rows = list(product(NETS, RECIPES, SIZES, REPS))
    table = pd.DataFrame(rows, columns=["net", "recipe", "n_imgs", "rep"]).assign(
        top1=[70 + row % 7 for row in range(24)], dollars=OUTLAYS
    )
    changed = table.assign(**{name: values for name, values in columns.items() if values is not None})
    return changed.drop(columns=[name for name, values in columns.items() if values is None])


def load(tmp_path: Path, table: pd.DataFrame, *named: str) -> Source:
    table.to_csv(tmp_path / "table.csv", index=False)
    return load_source(tmp_path / "table.csv", parse_columns(named))


@pytest.mark.parametrize("named", [(), ("model=net", "test_accuracy=top1"), ("cost=dollars", "images=n_imgs")])
def test_columns_that_no_reader_named_are_guessed_and_told(named: tuple[str, ...], tmp_path: Path) -> None:
    source = load(tmp_path, study(), *named)
    ranking = raybench.rank(source)
    assert len(ranking) == 8
    assert set(ranking["strategy"]) == {"full", "probe"}
    assert set(ranking["train_size"]) == {500, 2000}
    assert set(ranking["seeds"]) == {3}
    assert ranking["standalone_cost_usd"].notna().all()
    (note,) = source.notes
    assert note.startswith("Read so: ")
    for said in ("model from net", "train_size from n_imgs", "seed from rep", "test_accuracy from top1 (percent)"):
        assert said in note
    assert note.endswith("Otherwise: --column KEY=NAME.")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *((name, "model") for name in ("network", "arch", "Backbone", "model_name")),
        *((name, "strategy") for name in ("method", "Mode", "Strategy")),
        *((name, "train_size") for name in ("n_images", "num_train", "n_train", "samples", "nImages")),
        *((name, "seed") for name in ("repeat", "run", "trial", "fold", "Seed")),
        *((name, "test_accuracy") for name in ("acc", "acc1", "Top-1", "test_acc", "Accuracy (%)")),
        *((name, "standalone_cost_usd") for name in ("usd", "price", "cost", "cost_usd")),
    ],
)
def test_names_of_other_people_are_recognised(name: str, key: str) -> None:
    ours = {
        "model": "net", "strategy": "recipe", "train_size": "n_imgs", "seed": "rep", "test_accuracy": "top1",
        "standalone_cost_usd": "dollars",
    }  # fmt: skip
    table = study().rename(columns={ours[key]: name})
    assert read_columns(table, {}).names == ours | {key: name}


@pytest.mark.parametrize("name", ["outlay", "spent", "hours", "gpu_minutes"])
def test_a_cost_or_a_time_never_names_a_configuration(name: str, tmp_path: Path) -> None:
    source = load(tmp_path, study().rename(columns={"dollars": name}))
    assert set(source.results["strategy"]) == {"full", "probe"}
    assert f"Not read: {name}." in source.notes[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price", [f"${outlay}" for outlay in OUTLAYS]),
        ("time taken", [f"{row}:05" for row in range(24)]),
        ("Unnamed: 0", range(24)),
        ("date", [f"2024-05-{row + 1:02d}" for row in range(24)]),
    ],
)
def test_amounts_in_text_rows_and_dates_name_no_configuration(name: str, values: object, tmp_path: Path) -> None:
    source = load(tmp_path, study(**{name: values}))
    assert len(raybench.rank(source)) == 8
    assert f"Not read: {name}." in source.notes[0]


@pytest.mark.parametrize(
    ("name", "values", "names_it"),
    [
        ("ratio_of_x", [0.1 + row / 97 for row in range(24)], True),
        ("learning rate", [0.1 + row / 97 for row in range(24)], True),
        ("gap", [0.1 + row / 97 for row in range(24)], False),
        ("gap", [0.25, 0.75] * 12, True),
        ("layers", list(range(24)), True),
    ],
)
def test_fractions_that_nearly_all_differ_are_measured_unless_a_setting_is_called_so(
    name: str, values: list[float], names_it: bool
) -> None:
    reading = read_columns(study(**{name: values}), {})
    assert reading.settings == ((name,) if names_it else ())
    assert reading.left_over == (() if names_it else (name,))


def test_four_values_are_too_few_to_say_that_they_are_measured() -> None:
    table = pd.DataFrame({"model": list("abcd"), "test_accuracy": 0.5, "gap": [0.11, 0.23, 0.38, 0.41]})
    assert read_columns(table, {}).settings == ("gap",)


def test_what_a_reader_says_beats_a_guess(tmp_path: Path) -> None:
    source = load(tmp_path, study(arch="x"), "model=arch", "seed=rep", "strategy=net")
    assert set(source.results["model"]) == {"x"}
    assert set(source.results["strategy"]) == {"r18+full", "r18+probe", "r50+full", "r50+probe"}


def test_raybenchs_own_names_keep_their_meaning() -> None:
    table = study(model="m", test_accuracy=0.5, train_size=7, seed=REPS * 8, strategy=RECIPES * 12)
    reading = read_columns(table.drop(columns=["rep", "dollars"]), {})
    assert reading.names == {}
    assert reading.settings == ("net", "recipe", "n_imgs")
    assert reading.left_over == ("top1",)
    for names in (RANK_COLUMNS, RESULTS_SCHEMA.names):
        own = read_columns(pd.DataFrame({name: [0.5] for name in names}), {}, names)
        assert not own.names
        assert not own.settings
        assert not own.left_over


def test_values_decide_where_a_name_alone_would_mislead() -> None:
    table = study(rep=None, run=["base", "tuned", "final"] * 8, recipe=[1, 2] * 12, n_imgs=["few", "all"] * 12)
    reading = read_columns(table, {})
    assert not {"seed", "strategy", "train_size"} & reading.names.keys()
    assert set(reading.settings) == {"run", "recipe", "n_imgs"}


def test_numbers_at_the_end_of_names_are_seeds(tmp_path: Path) -> None:
    source = load(tmp_path, study(rep=None, run=["run_1", "run_2", "run_3"] * 8))
    assert set(source.results["seed"]) == {1, 2, 3}


def test_repeats_that_no_two_rows_share_are_numbered_anew(tmp_path: Path) -> None:
    source = load(tmp_path, study(rep=None, trial=range(100, 124)))
    assert set(source.results["seed"]) == {0, 1, 2}
    assert "No two rows share a trial, so seeds number each configuration's rows." in source.notes[0]


def test_seeds_and_folds_count_together_where_both_tell_rows_apart(tmp_path: Path) -> None:
    source = load(tmp_path, study(rep=None, seed=[0, 0, 1] * 8, fold=[0, 1, 0] * 8))
    assert set(source.results["seed"]) == {0, 1, 2}
    assert "Seeds number the pairs of seed and fold." in source.notes[0]
    assert "Not read" not in source.notes[0]
    alike = load(tmp_path, study(fold=4))
    assert set(alike.results["seed"]) == {1, 2, 3}
    assert "Not read: fold." in alike.notes[0]


def test_pretrained_or_not_names_the_weights(tmp_path: Path) -> None:
    source = load(tmp_path, study(recipe=None, pretrained=([True] * 6 + [False] * 6) * 2))
    assert set(source.results["weights"]) == {"pretrained", "random"}


def test_names_of_a_table_of_epochs_are_guessed_too(tmp_path: Path) -> None:
    table = pd.DataFrame({"arch": "a", "Epoch": [1, 2], "loss": [0.9, 0.4], "acc": [50, 60], "trn_loss": [1.0, 0.5]})
    source = load(tmp_path, table)
    assert source.kind is Kind.HISTORY
    assert source.results["val_accuracy"].to_list() == [0.6]
    assert source.results["best_epoch"].to_list() == [2]


def test_errors_name_the_tables_own_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 2: top1 \(read as test_accuracy\) is good; give a fraction"):
        load(tmp_path, study(top1=["0.5", "good"] * 12))
    with pytest.raises(InputError, match=r"repeats a configuration .*; not read: outlay"):
        load(tmp_path, study(rep=None, dollars=None, outlay=OUTLAYS))


def test_the_learning_rate_of_an_exported_run_is_in_its_strategy_already(tmp_path: Path) -> None:
    row = {"schema_version": 1, "model": "a", "test_accuracy": 0.5, "strategy": "fine-tune", "learning_rate": 0.001}
    source = load(tmp_path, pd.DataFrame([row]))
    assert source.results["strategy"].to_list() == ["fine-tune"]
    assert source.notes == ()
